"""What observers show: words, plain lines, and bars on a terminal."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from pathlib import Path

import pytest
from msgspec.structs import replace
from rich.console import Console

from msr_async.errors import ScriptFailed
from msr_async.events import (
    BackupCreated,
    BatchFinished,
    Event,
    LockWaiting,
    MigrationErred,
    MigrationFinished,
    MigrationStarted,
    Noticed,
    PartProgress,
    Planned,
    RecoveryStarted,
    Restored,
    StatementProgress,
    Step,
    TransferStarted,
    Warned,
)
from msr_async.models import BackupInfo, Migration, Part, Plan, RestoreInfo, Script
from msr_async.observers import wording
from msr_async.observers.lines import LinesObserver
from msr_async.observers.progress import ProgressObserver

MIGRATION = Migration(
    version=202601010900,
    name="first",
    up=Script(path=Path("V202601010900_first.up.sql"), text="", language="sql"),
    down=None,
    checksum="",
)
FAILURE = ScriptFailed('relation "x" does not exist', path=Path("/a/b/V1_x.up.sql"), line=3, column=7)
ORDERS = Part(kind="table", names=("public", "orders"), estimate=2_000_000)
EVIL = Part(kind="table", names=("public", "a\x1b[31m\nb"), estimate=2_000_000)
BACKUP = BackupInfo(
    path=Path("backups/b.msrbak"),
    size=1_500_000,
    id="1",
    created=datetime(2026, 1, 1, tzinfo=UTC),
    parts=2,
    rows=3_000,
    raw_bytes=4_000_000,
    complete=True,
    duration=2.0,
)
RESTORE = RestoreInfo(path=Path("b.msrbak"), parts=2, rows=3_000, raw_bytes=4_000_000, duration=2.0)


def backup(*parts: Part) -> TransferStarted:
    return TransferStarted(action="backup", path=BACKUP.path, parts=parts, raw_bytes=4_000_000)


def moved(part: Part, amount: int, *, finished: bool = False) -> PartProgress:
    return PartProgress(action="backup", part=part, rows=10, raw_bytes=amount, finished=finished)


@pytest.mark.parametrize(
    ("amount", "words"),
    [(0, "0 B"), (999, "999 B"), (1_000, "1.0 kB"), (999_999, "1.0 MB"), (45_600_000, "45.6 MB"), (120e9, "120 GB")],
)
def test_sizes_in_words(amount: float, words: str) -> None:
    assert wording.size(amount) == words


@pytest.mark.parametrize(
    ("duration", "words"),
    [(0.0123, "12 ms"), (0.5, "0.5 s"), (59.96, "1 min 00 s"), (83, "1 min 23 s"), (7380, "2 h 03 min")],
)
def test_durations_in_words(duration: float, words: str) -> None:
    assert wording.seconds(duration) == words


def test_long_names_are_cut_in_the_middle_to_the_width() -> None:
    assert wording.shorten("public.a_very_long_name_of_2026", 14) == "publi...f_2026"
    assert wording.shorten("public.orders", 13) == "public.orders"


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def lines(*events: Event, wait: float = 0.0) -> list[str]:
    stream, clock = io.StringIO(), Clock()
    observer = LinesObserver(stream, clock=clock)
    for event in events:
        observer(event)
        clock.now += wait
    return stream.getvalue().splitlines()


def test_lines_tell_start_and_end_and_not_every_chunk() -> None:
    chunks = [moved(ORDERS, 1_000) for _ in range(500)]
    assert lines(backup(ORDERS, EVIL), *chunks, BackupCreated(backup=BACKUP)) == [
        "backup b.msrbak: 2 parts, about 4.0 MB",
        "backup: 3,000 rows, 4.0 MB in a file of 1.5 MB  2.0 s  2.0 MB/s",
    ]


def test_lines_tell_every_few_seconds_how_far_it_is() -> None:
    told = lines(backup(ORDERS, EVIL), moved(ORDERS, 1_000_000), moved(ORDERS, 1_000_000, finished=True), wait=5.0)
    assert told[1:] == [
        "backup: 1.0 MB of 4.0 MB (25%), 200 kB/s, 15.0 s left; 0 of 2 parts done, now public.orders",
        "backup: 2.0 MB of 4.0 MB (50%), 200 kB/s, 10.0 s left; 1 of 2 parts done, now public.orders",
    ]


def test_lines_of_a_failed_run_tell_the_whole_story() -> None:
    assert lines(
        Planned(plan=Plan(pending=(MIGRATION,), applied=())),
        MigrationStarted(migration=MIGRATION, direction="up", position=1, total=1),
        MigrationErred(migration=MIGRATION, direction="up", error=FAILURE),
        RecoveryStarted(strategy="backup", error=FAILURE),
        Step(action="restore", detail="indexes"),
        Restored(restore=RESTORE),
        Warned(message="something"),
    ) == [
        "1 migration to run",
        "running V202601010900_first (1 of 1)",
        'failed: V202601010900_first: V1_x.up.sql:3:7: relation "x" does not exist',
        "putting the database back (strategy backup)",
        "restore: indexes",
        "restored: 3,000 rows, 4.0 MB, checked  2.0 s  2.0 MB/s",
        "warning: something",
    ]


def test_a_failure_in_the_migrations_own_file_names_it_once() -> None:
    error = ScriptFailed("no", path=Path("/a/V202601010900_first.up.sql"), line=3)
    erred = MigrationErred(migration=MIGRATION, direction="up", error=error)
    assert lines(erred) == ["failed: V202601010900_first.up.sql:3: no"]


def test_ten_thousand_steps_are_not_ten_thousand_lines() -> None:
    steps = [Step(action="restore", detail=f"index {number}") for number in range(10_000)]
    assert len(lines(*steps)) == 20
    assert len(lines(*steps[:30], wait=2.0)) == 30


def test_lines_and_bars_spell_out_control_characters() -> None:
    shown = "\n".join(lines(backup(EVIL), moved(EVIL, 10), Warned(message="x\x1b[2Jy"), wait=9))
    assert "\x1b" not in shown
    assert "a\\x1b[31m\\nb" in shown
    assert "\\x1b[2J" in "".join(bars(Warned(message="x\x1b[2Jy"), colours=False))


def bars(*events: Event, encoding: str = "utf-8", colours: bool = True) -> str:
    """What a terminal of 80 columns gets, with a refresh after each event."""
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding)
    system = "standard" if colours else None
    console = Console(file=stream, force_terminal=True, width=80, color_system=system, highlight=False)  # type: ignore[arg-type]
    with ProgressObserver(console) as observer:
        for event in events:
            observer(event)
            observer.refresh()
    stream.flush()
    return raw.getvalue().decode(encoding)


def test_a_bar_shows_total_rate_and_running_parts() -> None:
    shown = bars(backup(ORDERS, EVIL), moved(ORDERS, 1_000_000), colours=False)
    assert "backup" in shown
    assert "1.0/4.0 MB" in shown
    assert "public.orders" in shown
    assert "10 rows" in shown


def test_at_most_six_running_parts_have_a_line() -> None:
    parts = [Part(kind="table", names=("public", f"t{number}"), estimate=1) for number in range(9)]
    frame = bars(backup(*parts), *(moved(part, 1) for part in parts), colours=False).rpartition("backup")[2]
    assert [part.name for part in parts if part.name in frame] == [f"public.t{number}" for number in range(6)]
    ended = bars(
        backup(*parts), *(moved(part, 1) for part in parts), moved(parts[0], 1, finished=True), colours=False
    ).rpartition("backup")[2]
    assert [part.name for part in parts if part.name in ended] == [f"public.t{number}" for number in range(1, 7)]


def test_a_part_that_outgrows_its_estimate_never_shows_more_than_all() -> None:
    shown = bars(backup(ORDERS), moved(ORDERS, 9_000_000), colours=False)
    assert "9.0/9.0 MB" in shown


def test_what_is_done_stays_as_a_line() -> None:
    shown = bars(
        MigrationStarted(migration=MIGRATION, direction="up", position=1, total=2),
        MigrationFinished(migration=MIGRATION, direction="up", duration=0.5),
        MigrationErred(migration=MIGRATION, direction="up", error=FAILURE),
        colours=False,
    )
    assert "V202601010900_first (1 of 2)" in shown
    assert "✓ V202601010900_first  0.5 s" in shown
    assert "✗ V202601010900_first: V1_x.up.sql:3:7" in shown


def test_a_terminal_without_unicode_gets_ascii() -> None:
    shown = bars(
        backup(ORDERS),
        moved(ORDERS, 1_000_000),
        Step(action="backup", detail="schema"),
        BackupCreated(backup=BACKUP),
        encoding="ascii",
    )
    assert "+ \x1b[0mbackup: 3,000 rows" in shown


def waiting(waited: float) -> LockWaiting:
    return LockWaiting(holder="msr_async:h:1", waited=waited)


def test_lines_tell_every_few_seconds_who_holds_the_lock() -> None:
    said = lines(*(waiting(second) for second in range(12)), wait=1.0)
    assert said == [
        f"warning: waiting for the migration lock, held by msr_async:h:1 ({amount})"
        for amount in ("0 ms", "5.0 s", "10.0 s")
    ]


def test_bars_tell_once_who_holds_the_lock_and_turn_until_it_is_had() -> None:
    stream = io.StringIO()
    console = Console(file=stream, width=100, force_terminal=True, highlight=False)
    with ProgressObserver(console) as bars:
        for second in range(12):
            bars(waiting(second))
        turning = stream.getvalue()
        bars(MigrationStarted(migration=MIGRATION, direction="up", position=1, total=1))
        bars(MigrationFinished(migration=MIGRATION, direction="up", duration=0.1))
    assert stream.getvalue().count("held by msr_async:h:1") == 1
    assert "waiting for the migration lock" in turning
    assert "waiting" not in stream.getvalue().removeprefix(turning)


def test_batches_progress_notices_and_drift_in_words() -> None:
    batch = BatchFinished(migration=MIGRATION, number=7, rows=100, total_rows=700, duration=0.5)
    built = StatementProgress(migration=MIGRATION, phase="building index", done=1, total=4)
    notice = Noticed(migration=MIGRATION, severity="NOTICE", message="hello")
    said = lines(batch, built, notice, Warned(message="w"), wait=6.0)
    assert said == [
        "V202601010900_first: batch 7, 700 rows, 1,400 rows/s",
        "V202601010900_first: building index 25%",
        "V202601010900_first: NOTICE: hello",
        "warning: w",
    ]


# -- Firestore -------------------------------------------------------------------------------------

DOCUMENTS = Part(kind="documents", names=("documents",), slice='["users/m", "users/t"]', framing="messages")


@pytest.mark.parametrize(
    ("part", "words"),
    [
        (ORDERS, "public.orders"),
        (DOCUMENTS, "documents from users/m"),
        (replace(DOCUMENTS, slice='["", "users/m"]'), "documents"),
    ],
)
def test_what_a_part_is_called(part: Part, words: str) -> None:
    assert wording.part_label(part) == words


def test_rows_of_firestore_are_documents() -> None:
    said = [wording.tell(BackupCreated(backup=replace(BACKUP, kind="firestore")))]
    said += [wording.tell(Restored(restore=replace(RESTORE, kind="firestore")))]
    said += [wording.tell(Restored(restore=RESTORE))]
    assert [told.text.partition(",000 ")[2].partition(",")[0] for told in said if told] == [
        "documents",
        "documents",
        "rows",
    ]


def test_lines_and_bars_tell_of_documents() -> None:
    told = lines(backup(DOCUMENTS), moved(DOCUMENTS, 1_000_000), wait=5.0)
    assert told[1].endswith("now documents from users/m")
    shown = bars(backup(DOCUMENTS), moved(DOCUMENTS, 1_000), colours=False)
    assert "documents from users/m" in shown
    assert "10 documents" in shown
