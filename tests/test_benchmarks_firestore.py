"""The Firestore benchmark runs end to end with tiny numbers, and what it reports can be read. No time is asserted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from benchmarks.firestore import data, database, report
from benchmarks.firestore.arena import Arena, Runs
from benchmarks.firestore.contestants import OURS, PLAIN, Action, Contestant
from benchmarks.measuring import CommandFailed, Cost, measure
from msr_async.testing.emulator import FirestoreEmulator

ROOT = Path(__file__).parents[1]


def bench(results: Path, *arguments: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.firestore", *arguments, "--json", str(results)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stderr
    document: dict[str, Any] = json.loads(results.read_text())
    return document


def test_ours_and_the_plain_way_bring_every_document_back(tmp_path: Path) -> None:
    numbers = ["--documents", "300", "--rounds", "1", "--warm", "0", "--memory", "50", "--memory", "60"]
    document = bench(tmp_path / "results.json", *numbers, "--case", "documents", "--case", "memory")
    main, *memory = document["tables"]
    assert [(line["action"], line["name"]) for line in main["lines"]] == [
        ("backup", OURS),
        ("backup", PLAIN),
        ("restore", OURS),
        ("restore", PLAIN),
    ]
    assert all(line["wall"] > 0 and line["file"] > 0 and line["peak"] > 2**20 for line in main["lines"])
    assert [(line["documents"], line["exact"]) for line in main["lines"][2:]] == [(300, True), (300, True)]
    assert json.loads(main["lines"][0]["output"])["documents"] > 0
    assert [table["documents"] for table in memory] == [50, 60]
    values = [target["value"] for target in document["targets"]]
    assert all(value > 0 for value in values[:8])
    assert values[8:] == [None]
    assert all(0 < line["inside"] < line["cpu"] for line in main["lines"])
    assert document["failures"] == []


def test_one_stream_and_eight_read_from_a_server_that_is_throttled(tmp_path: Path) -> None:
    document = bench(tmp_path / "results.json", "--streams", "200", "--throttle", "1000", "--case", "streams")
    (table,) = document["tables"]
    assert [line["name"] for line in table["lines"]] == [f"{OURS}, 1 stream", f"{OURS}, 8 streams"]
    assert document["targets"][-1]["value"] > 0


def arena(emulator: FirestoreEmulator, folder: Path) -> Arena:
    return Arena(address=emulator.address, server=emulator.pid, folder=folder, tell=print)


def contestant(name: str, code: str, *, may_fail: bool = False, deadline: float = 0.0) -> Contestant:
    """Runs a line of Python, which has the action and the file as arguments."""

    def command(action: Action, where: Any) -> Sequence[str]:
        return [sys.executable, "-c", f"import sys; {code}", action, str(where.file)]

    return Contestant(name=name, program="", command=command, file=name, may_fail=may_fail, deadline=deadline)


def test_a_restore_that_left_documents_out_is_not_a_result(
    firestore_emulator: FirestoreEmulator, tmp_path: Path
) -> None:
    forgetful = contestant("forgetful", "open(sys.argv[2], 'w').close()")
    with pytest.raises(CommandFailed, match="forgetful restored 0 documents, where there were 5"):
        arena(firestore_emulator, tmp_path).run(5, [forgetful], 1)


def test_what_somebody_elses_tool_lost_or_failed_at_stands_in_the_table(
    firestore_emulator: FirestoreEmulator, tmp_path: Path
) -> None:
    forgetful = contestant("forgetful", "open(sys.argv[2], 'w').close()", may_fail=True)
    broken = contestant("broken", "sys.exit(3)", may_fail=True)
    slow = contestant("slow", "import time; time.sleep(60)", may_fail=True, deadline=0.3)
    runs = arena(firestore_emulator, tmp_path).run(5, [forgetful, broken, slow], 1)
    table = report.table("five", 5, runs)
    restored = {line.name: line for line in table.lines if line.action == "restore"}
    assert (restored["forgetful"].documents, restored["forgetful"].exact) == (0, False)
    failed = {line.name: line.failure for line in table.lines if line.action == "backup"}
    assert "ended with 3" in failed["broken"]
    assert "was not done after 0.3 s" in failed["slow"]
    assert "0, changed" in report.as_columns(table, "restore")
    assert "failed:" in report.as_markdown(table, "backup")


def test_two_databases_are_equal_only_with_the_same_content(firestore_emulator: FirestoreEmulator) -> None:
    address = firestore_emulator.address
    for project, count in (("bench-one", 40), ("bench-two", 40), ("bench-three", 39)):
        database.fill(address, project, count)
    one, two, three = (database.state_of(address, f"bench-{name}") for name in ("one", "two", "three"))
    database.empty(address, "bench-two")
    assert one == two
    assert one.digest != three.digest
    assert (one.documents, three.documents) == (40, 39)
    assert database.state_of(address, "bench-two").documents == 0


def test_documents_are_the_same_every_time_and_parents_come_first() -> None:
    first, again = list(data.documents(150)), list(data.documents(150))
    assert first == again
    assert len({path for path, _ in first}) == 150
    depths = {path.count("/") for path, _ in first}
    assert depths == {1, 3, 5}
    assert all(len(fields) == 9 for _, fields in first)
    sizes = [len(json.dumps(fields)) for _, fields in islice(first, 100)]
    assert 200 < sum(sizes) / len(sizes) < 300


def test_a_command_that_is_late_is_killed(tmp_path: Path) -> None:
    program = f"import os, time; open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    with pytest.raises(CommandFailed, match="was not done after 1 s"):
        measure([sys.executable, "-c", program], server=1, bytecode=tmp_path, deadline=1)
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


START = 'a word before\n{"start_cpu": 0.5}\n'


def runs(action: Action, name: str, *walls: float, cpu: float, peak: int = 50 * 2**20) -> Runs:
    costs = [Cost(wall=wall, cpu=cpu, peak=peak, server_cpu=3 * cpu, output=START) for wall in walls]
    files, restored = [1] * len(walls), [7] * len(walls)
    return Runs(action=action, contestant=contestant(name, ""), costs=costs, files=files, restored=restored)


def test_ratios_are_of_medians_and_targets_are_judged_by_them() -> None:
    main = report.table(
        "seven",
        7,
        [
            runs("backup", OURS, 1.0, 2.0, 9.0, cpu=1.0),
            runs("backup", PLAIN, 10.0, cpu=5.0),
            runs("restore", OURS, 3.0, cpu=1.0),
            runs("restore", PLAIN, 10.0, cpu=100.0),
        ],
    )
    few, many = (
        report.table("", count, [runs("backup", OURS, 1.0, cpu=1.0, peak=peak), runs("restore", OURS, 1.0, cpu=1.0)])
        for count, peak in ((10, 50 * 2**20), (200, 60 * 2**20))
    )
    streams = report.table("", 7, [runs("backup", "one", 8.0, cpu=1.0), runs("backup", "eight", 2.0, cpu=1.0)])
    found = report.targets(main, [few, many], streams, ("one", "eight"))
    assert [target.value for target in found] == pytest.approx(
        [0.2, 0.2, 0.5 / 4.5, 0.3, 0.01, 0.5 / 99.5, 1.2, 1.0, 0.25]
    )
    assert [target.met for target in found] == [True, False, True, False, True, True, False, True, True]
    assert main.lines[0].servers_share == 0.75


def test_what_was_not_measured_is_no_target_met() -> None:
    assert [target.met for target in report.targets(None)] == [None] * 9
