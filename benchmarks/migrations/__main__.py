"""The command: `python -m benchmarks.migrations --rounds 5 --json results.json`."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from msr_async.testing.embedded import EmbeddedPostgres

from .. import report as machines
from ..data import psql
from ..measuring import CommandFailed
from . import files, report
from .arena import Arena, Case, planning_command
from .contestants import EVERYBODY, Contestant


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    os.environ["MSR_SQUAWK"] = (
        "off"  # a program of somebody else's, which would review the scripts where it is installed
    )
    try:
        document = _bench(options)
    except CommandFailed as error:
        print(error, file=sys.stderr)
        return 1
    if options.json:
        options.json.write_text(json.dumps(document, indent=1) + "\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.migrations", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="how often everybody runs (5)")
    parser.add_argument(
        "--count", action="append", type=int, help="migrations to apply; may be repeated (1, 100 and 1,000)"
    )
    parser.add_argument("--idle", type=int, default=1_000, help="applied ones of the runs with nothing to do (1,000)")
    parser.add_argument("--far", type=int, default=100, help="migrations to apply on the server far away (100)")
    parser.add_argument("--round-trip", type=float, default=5.0, help="to that server, in milliseconds (5)")
    parser.add_argument("--plan", type=int, default=10_000, help="files to plan, without running any (10,000)")
    parser.add_argument(
        "--only", action="append", default=[], metavar="WORDS", help="run only contestants with these words"
    )
    parser.add_argument("--case", action="append", default=[], metavar="WORDS", help="run only cases with these words")
    parser.add_argument("--postgres", type=int, default=18, help="the server's major version (18)")
    parser.add_argument("--json", type=Path, help="write everything there too")
    parser.add_argument("--markdown", action="store_true", help="print the tables as benchmarks/README.md has them")
    return parser


def cases(options: argparse.Namespace) -> list[Case]:
    away = f"{options.round_trip:g} ms away"
    seconds = options.round_trip / 1000
    most = max(counts := options.count or (1, 100, 1_000))
    every = [
        *(Case(name=_migrations(count), count=count) for count in counts),
        Case(name=f"{_migrations(most)}, plain tables", count=most, plain=True),
        Case(name=f"nothing to do, {options.idle:,} applied", count=options.idle, applied=True),
        Case(name=f"{_migrations(options.far)}, {away}", count=options.far, round_trip=seconds),
        Case(
            name=f"nothing to do, {options.idle:,} applied, {away}",
            count=options.idle,
            applied=True,
            round_trip=seconds,
        ),
    ]
    return [case for case in every if _chosen(case.name, options.case)]


def _migrations(count: int) -> str:
    return f"{count:,} migration{'s' if count > 1 else ''}"


def _chosen(name: str, words: Sequence[str]) -> bool:
    return not words or any(item in name for item in words)


def _bench(options: argparse.Namespace) -> dict[str, Any]:
    def tell(text: str) -> None:
        print(f"  {text}", file=sys.stderr, flush=True)

    wanted = [item for item in EVERYBODY if _chosen(item.name, options.only)]
    missing = {item.name: item.missing for item in wanted if item.missing}
    for name, packages in missing.items():
        print(f"{name} is left out: {', '.join(packages)} not installed (dependency group `bench`).", flush=True)
    contestants = [item for item in wanted if item.name not in missing]
    about = machines.machine(Path(tempfile.gettempdir()))
    # The server's settings are its defaults: fsync on, 128 MB of shared buffers.
    server = EmbeddedPostgres(options.postgres)
    server.start()
    try:
        about["postgresql"] = psql(server, "postgres", "SHOW server_version")
        with tempfile.TemporaryDirectory(prefix="msr-bench-") as folder:
            arena = Arena(server=server, folder=Path(folder))
            arena.compile(contestants)
            tables = [report.table(case, arena.run(case, contestants, options.rounds, tell)) for case in cases(options)]
            planning = _plan(arena, options) if _chosen("planning", options.case) else {}
    finally:
        server.stop()
    _show(tables, planning, contestants, options)
    return report.as_json(tables, planning, missing, {"machine": about, "rounds": options.rounds})


def _plan(arena: Arena, options: argparse.Namespace) -> dict[str, float]:
    """Seconds that the plan of many files takes, all pending and all applied; medians of processes."""
    arena.server.run("createdb", "-T", "template0", "planned")
    dsn = arena.server.dsn("planned")
    folder = files.write_spread(arena.folder / "planned", options.plan)

    def seconds(action: str, *, pending: int) -> float:
        told = json.loads(arena.measure(planning_command(action, dsn, folder)).output)
        if told["pending"] != pending:
            raise CommandFailed(f"{told['pending']} files were pending, where {pending} were due")
        return float(told["seconds"])

    before = statistics.median(seconds("pending", pending=options.plan) for _ in range(options.rounds))
    seconds("record", pending=options.plan)
    after = statistics.median(seconds("applied", pending=0) for _ in range(options.rounds))
    return {f"{options.plan:,} files, all pending": before, f"{options.plan:,} files, all applied": after}


def _show(
    tables: Sequence[report.Table],
    planning: dict[str, float],
    contestants: Sequence[Contestant],
    options: argparse.Namespace,
) -> None:
    print(f"\nMedians of {options.rounds} rounds; {'; '.join(item.program for item in contestants)}")
    for item in tables:
        print("\n" + (report.as_markdown(item) if options.markdown else report.as_columns(item)))
    print()
    for what, seconds in planning.items():
        print(f"planning {what}: {seconds:.3f} s")
    print("\n" + "\n".join(map(str, report.targets(tables, planning))), flush=True)


if __name__ == "__main__":
    sys.exit(main())
