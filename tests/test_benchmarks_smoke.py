"""The benchmarks run end to end on a tiny database, and what they report can be read. No time is asserted."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks import data, report
from benchmarks.measuring import CommandFailed, Cost, measure
from benchmarks.rounds import Arena, Runs
from benchmarks.ways import Way
from msr_async.testing.embedded import EmbeddedPostgres
from tests.support.servers import Database, only_newest

ROOT = Path(__file__).parents[1]


def test_everybody_backs_up_and_restores_a_tiny_database(tmp_path: Path) -> None:
    results = tmp_path / "results.json"
    command = [sys.executable, "-m", "benchmarks", "--size", "200KB", "--rounds", "2", "--json", str(results)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stderr
    (document,) = json.loads(results.read_text())
    lines = {line["name"]: line for line in document["lines"]}
    assert {"msr_async", "pg_dump -Fd -j2", "guide: one JSON string"} <= lines.keys()
    assert {"msr_async, one transaction", "pg_restore -j1", "guide: INSERT row by row"} <= lines.keys()
    assert all(len(line["walls"]) == 2 and line["file"] > 0 and line["peak"] > 2**20 for line in lines.values())
    assert json.loads(lines["msr_async"]["output"])["imports"] > 0
    assert json.loads(lines["msr_async, one transaction"]["output"])["indexes and constraints"] > 0
    assert lines["pg_restore -j1"]["ratio"] == 1
    assert len(document["targets"]) == 4
    assert "msr_async, one transaction" in done.stdout


@only_newest
def test_the_database_is_the_same_every_time(postgres: EmbeddedPostgres, make_database: Callable[[], Database]) -> None:
    hashes = []
    for _ in range(2):
        database = make_database()
        data.fill(postgres, database.name, data.parse_size("100KB"))
        rows = database.sql(
            ";".join(f"SELECT md5(string_agg(t::text, '|' ORDER BY t::text)) FROM {t} t" for t in data.TABLES)
        )
        hashes.append(rows)
    assert hashes[0] == hashes[1]
    assert len(set(hashes[0].split())) == len(data.TABLES)


@only_newest
def test_a_restore_that_left_rows_out_is_not_a_result(postgres: EmbeddedPostgres, tmp_path: Path) -> None:
    postgres.run("createdb", "-T", "template0", "source")
    try:
        data.fill(postgres, "source", data.parse_size("100KB"))
        (tmp_path / "file").write_text("")
        way = Way(
            action="restore",
            name="forgetful",
            command=lambda dsn, file: [str(postgres.bin_dir / "psql"), "-Xqc", "DELETE FROM files", dsn],
            file="file",
            baseline="",
            needs_schema=True,
        )
        with pytest.raises(CommandFailed, match="forgetful restored"):
            Arena(server=postgres, folder=tmp_path).all_rounds([way], [way], 1, print)
    finally:
        postgres.run("dropdb", "--force", "source")


def test_a_command_is_charged_for_its_children_and_its_memory(tmp_path: Path) -> None:
    child = "sum(range(9_000_000))"
    work = f"import subprocess, sys; x = b'x' * 80_000_000; subprocess.run([sys.executable, '-c', {child!r}])"
    cost = measure([sys.executable, "-c", work], server=1, bytecode=tmp_path)
    idle = measure([sys.executable, "-c", "import time; time.sleep(0.3)"], server=1, bytecode=tmp_path)
    assert cost.peak > 80_000_000 > idle.peak
    assert cost.cpu > 5 * idle.cpu
    assert idle.wall > 0.3


def test_a_command_that_fails_says_what_it_said(tmp_path: Path) -> None:
    with pytest.raises(CommandFailed, match="ended with 3"):
        measure([sys.executable, "-c", "raise SystemExit(3)"], server=1, bytecode=tmp_path)
    with pytest.raises(CommandFailed, match="no-such-program: No such file"):
        measure(["no-such-program"], server=1, bytecode=tmp_path)


def run(name: str, baseline: str, *walls: float, action: str = "backup", peak: int = 50 * 2**20) -> Runs:
    way = Way(
        action="backup" if action == "backup" else "restore",
        name=name,
        command=lambda *_: [],
        file="",
        baseline=baseline,
    )
    costs = [Cost(wall=wall, cpu=wall, peak=peak, server_cpu=None, output="") for wall in walls]
    return Runs(way=way, costs=costs, files=[1] * len(walls))


def test_ratios_are_of_medians_and_targets_are_judged_by_them() -> None:
    lines = report.lines(
        [
            run("msr_async", "pg_dump -Fd -j2", 2.0, 9.0, 3.0, peak=120 * 2**20),
            run("pg_dump -Fd -j2", "pg_dump -Fd -j2", 10.0, 10.0, 40.0),
        ]
    )
    assert [line.ratio for line in lines] == [0.3, 1.0]
    fast, zstd, memory, restore = report.targets(lines)
    assert (fast.met, zstd.met, memory.met, restore.met) == (True, None, False, None)
    assert str(memory).startswith("MISSED: peak memory of our process in MiB: 120.00")
    assert str(zstd).startswith("not measured:")


@pytest.mark.parametrize(("text", "size"), [("100MB", 100_000_000), ("1.5gb", 1_500_000_000), ("20 KB", 20_000)])
def test_sizes_are_read(text: str, size: int) -> None:
    assert data.parse_size(text) == size


def test_a_size_without_unit_is_refused() -> None:
    with pytest.raises(ValueError, match="is not a size such as 100MB"):
        data.parse_size("100")


def test_a_plain_table_lines_its_columns_up() -> None:
    text = report.as_text([("a long name", "1.5"), ("b", "22.25")], ("backup", "wall s"))
    assert text.splitlines() == ["backup       wall s", "a long name     1.5", "b             22.25"]
