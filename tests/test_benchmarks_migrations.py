"""The migration benchmark runs end to end with tiny numbers, and what it reports can be read. No time is asserted."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import asyncpg
import pytest

from benchmarks.measuring import CommandFailed, Cost
from benchmarks.migrations import report
from benchmarks.migrations.arena import Arena, Case, Runs
from benchmarks.migrations.contestants import ALEMBIC, BARE, EVERYBODY, OURS, Contestant
from benchmarks.migrations.proxy import DelayingProxy
from msr_async.testing.embedded import EmbeddedPostgres
from tests.support.servers import Database, only_newest

ROOT = Path(__file__).parents[1]


def test_ours_and_the_bare_loop_run_on_a_server_near_and_far(tmp_path: Path) -> None:
    results = tmp_path / "results.json"
    numbers = ["--rounds", "1", "--count", "2", "--idle", "3", "--far", "2", "--plan", "20"]
    names = ["--only", OURS, "--only", BARE, "--case", "plain", "--case", "away", "--case", "planning"]
    command = [sys.executable, "-m", "benchmarks.migrations", *numbers, *names, "--json", str(results)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stderr
    document = json.loads(results.read_text())
    assert [(table["name"], table["count"], table["applied"]) for table in document["tables"]] == [
        ("2 migrations, plain tables", 2, False),
        ("2 migrations, 5 ms away", 2, False),
        ("nothing to do, 3 applied, 5 ms away", 3, True),
    ]
    for table in document["tables"]:
        lines = {line["name"]: line for line in table["lines"]}
        assert list(lines) == [OURS, f"{OURS}, command line", BARE]
        assert all(line["wall"] > 0 and len(line["walls"]) == 1 for line in lines.values())
        assert lines[OURS]["inside"] < lines[OURS]["wall"]
    far = {line["name"]: line for line in document["tables"][1]["lines"]}
    assert far[BARE]["round_trips"] > 2
    assert far[BARE]["connections"] == 1
    assert set(document["planning"]) == {"20 files, all pending", "20 files, all applied"}
    assert "bare asyncpg loop" in done.stdout


@only_newest
async def test_the_proxy_delays_every_question_and_counts_it(database: Database) -> None:
    with DelayingProxy(database.server.port, delay=0.0025).running() as proxy:
        connection = await asyncpg.connect(database.dsn.replace(f":{database.server.port}/", f":{proxy.port}/"))
        assert (proxy.traffic.connections, proxy.traffic.round_trips) == (1, 0)
        started = time.perf_counter()
        for _ in range(20):
            await connection.execute("SELECT 1")
        took = time.perf_counter() - started
        await connection.close()
    assert proxy.traffic.round_trips == 20
    assert 20 * 0.005 <= took < 20 * 0.05


@only_newest
def test_a_contestant_that_left_a_migration_out_is_no_result(postgres: EmbeddedPostgres, tmp_path: Path) -> None:
    lazy = contestant("lazy", [sys.executable, "-c", "pass"])
    with pytest.raises(CommandFailed, match="lazy made 0 tables and recorded 2, where 2 were due"):
        Arena(server=postgres, folder=tmp_path).run(Case(name="two", count=2), [lazy], 1, print)
    postgres.run("dropdb", "contest_0")


def test_a_peer_that_is_not_installed_is_named() -> None:
    assert contestant("missing", [], "no-such-package").missing == ("no-such-package",)
    assert [item.missing for item in EVERYBODY[:3]] == [(), (), ()]


def contestant(name: str, command: Sequence[str], *packages: str) -> Contestant:
    return Contestant(name=name, layout="sql", command=lambda *_: command, applied="SELECT 2", packages=packages)


def runs(name: str, *walls: float, inside: float, round_trips: int | None = None) -> Runs:
    costs = [
        Cost(wall=wall, cpu=wall, peak=0, server_cpu=None, output=json.dumps({"imports": 0.1, "inside": inside}))
        for wall in walls
    ]
    trips = [] if round_trips is None else [round_trips]
    return Runs(contestant=contestant(name, []), costs=costs, round_trips=trips)


def test_ratios_are_of_medians_and_targets_are_judged_by_them() -> None:
    thousand = report.table(
        Case(name="1,000", count=1_000),
        [runs(OURS, 1.0, 2.0, 9.0, inside=1.0), runs(BARE, 4.0, inside=4.0), runs(ALEMBIC, 5.0, inside=2.0)],
    )
    nothing = report.table(
        Case(name="nothing", count=1_000, applied=True), [runs(OURS, 2.6, inside=1.0), runs(BARE, 2.0, inside=1.0)]
    )
    far = report.table(
        Case(name="far", count=1_000, applied=True, round_trip=0.005), [runs(OURS, 2.0, inside=1.0, round_trips=1)]
    )
    found = report.targets([thousand, nothing, far], {"10,000 files, all pending": 0.4})
    assert [target.value for target in found] == [0.5, 0.4, 0.25, 0.5, *[None] * 4, 1.3, 1, 0.4]
    assert [target.met for target in found] == [True, False, True, False, *[None] * 4, False, True, True]
    assert thousand.cells(thousand.lines[0])[:4] == (OURS, "2.000", "0.50", "0.40")


def test_what_was_not_measured_is_no_target_met() -> None:
    small = report.table(Case(name="1", count=1), [runs(OURS, 1.0, inside=1.0), runs(BARE, 1.0, inside=1.0)])
    assert [target.met for target in report.targets([small], {"50 files, all pending": 0.1})] == [None] * 11
