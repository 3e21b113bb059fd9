"""The command: `python -m benchmarks.firestore --rounds 3 --json results.json`."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import grpc

from msr_async.errors import MsrError
from msr_async.testing.emulator import FirestoreEmulator

from .. import report as machines
from ..measuring import CommandFailed
from . import report, throttled
from .arena import Arena
from .contestants import ACTIONS, Contestant, ours, plain
from .peers import PeersMissing, peers

_CASES = ("documents", "peers", "memory", "streams")
_STREAMS = (1, 8)
_PEERS_NOTE = """The npm tools ask every document for its collections, for which this emulator looks through all of its
documents each time. A real database does not, so their times are unfairly long here, and longer still with more
documents. The last column is what came out."""


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    document = _bench(options)
    if options.json:
        options.json.write_text(json.dumps(document, indent=1) + "\n")
    return 1 if document["failures"] else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.firestore", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="how often ours and the plain way run (3)")
    parser.add_argument("--documents", type=int, default=100_000, help="of the first case (100,000)")
    parser.add_argument("--peers", type=int, default=2_000, help="documents beside the tools of npm (2,000)")
    parser.add_argument(
        "--memory", action="append", type=int, help="documents; may be repeated (10,000, 100,000 and 200,000)"
    )
    parser.add_argument("--streams", type=int, default=160_000, help="documents on the throttled server (160,000)")
    parser.add_argument("--throttle", type=int, default=3_000, help="its documents a second a stream (3,000)")
    parser.add_argument(
        "--warm", type=int, default=60_000, help="documents of a first run that is not counted; 0 is none (60,000)"
    )
    parser.add_argument("--case", action="append", choices=_CASES, help="run only this; may be repeated")
    parser.add_argument("--npm", type=Path, help="a node_modules that has the tools, instead of installing them")
    parser.add_argument("--json", type=Path, help="write everything there too")
    parser.add_argument("--markdown", action="store_true", help="print the tables as benchmarks/README.md has them")
    return parser


def _bench(options: argparse.Namespace) -> dict[str, Any]:
    cases = options.case or _CASES
    about = machines.machine(Path(tempfile.gettempdir()))
    about["google-cloud-firestore"] = version("google-cloud-firestore")
    found = Found()
    with tempfile.TemporaryDirectory(prefix="msr-bench-") as name:
        folder = Path(name)
        if set(cases) - {"streams"}:
            with found.failing("emulator"):
                _on_the_emulator(folder, cases, options, found)
        if "streams" in cases:
            with found.failing("streams"):
                found.tables["streams"].append(_throttled(folder, options))
    about["load_after"] = round(os.getloadavg()[0], 1)
    judged = report.targets(
        next(iter(found.tables["documents"]), None),
        found.tables["memory"],
        next(iter(found.tables["streams"]), None),
        (ours(_STREAMS[0]).name, ours(_STREAMS[1]).name),
    )
    every = [item for case in _CASES for item in found.tables[case]]
    _show(every, judged, about, found.missing, markdown=options.markdown)
    return report.as_json(every, judged, {"machine": about, "missing": found.missing, "failures": list(found.failures)})


@dataclass(kw_only=True)
class Found:
    """What came out so far. A case that fails leaves what the others found."""

    tables: dict[str, list[report.Table]] = field(default_factory=lambda: {case: [] for case in _CASES})
    missing: str = ""
    """Why the tools of npm did not take part."""
    failures: list[str] = field(default_factory=list)

    @contextmanager
    def failing(self, case: str) -> Iterator[None]:
        try:
            yield
        except (CommandFailed, MsrError, grpc.RpcError) as error:
            self.failures.append(f"{case}: {error}")
            print(f"{case} failed: {error}", file=sys.stderr, flush=True)


def _on_the_emulator(folder: Path, cases: Sequence[str], options: argparse.Namespace, found: Found) -> None:
    # As its own launcher starts it, with room for the data.
    emulator = FirestoreEmulator(heap="4g", options=())
    emulator.start()
    try:
        arena = Arena(address=emulator.address, server=emulator.pid, folder=folder, tell=_tell, alone=True)
        both = [ours(), plain()]
        if options.warm:
            arena.warm_up(options.warm, both)
        if "documents" in cases:
            with found.failing("documents"):
                runs = arena.run(options.documents, both, options.rounds)
                found.tables["documents"].append(report.table(_counted(options.documents), options.documents, runs))
        if "peers" in cases:
            with found.failing("peers"):
                everybody, found.missing = _with_peers(both, folder, options)
                runs = arena.run(options.peers, everybody, 1)
                found.tables["peers"].append(
                    report.table(_counted(options.peers), options.peers, runs, note=_PEERS_NOTE)
                )
        for count in _memory_counts(options) if "memory" in cases else ():
            with found.failing("memory"):
                runs = arena.run(count, both[:1], 1)
                found.tables["memory"].append(report.table(f"memory, {_counted(count)}", count, runs))
    finally:
        emulator.kill()  # it holds nothing to keep


def _with_peers(both: Sequence[Contestant], folder: Path, options: argparse.Namespace) -> tuple[list[Contestant], str]:
    try:
        return [*both, *peers(folder, options.npm)], ""
    except PeersMissing as error:
        return list(both), f"The tools of npm are left out: {error}."


def _throttled(folder: Path, options: argparse.Namespace) -> report.Table:
    runs = throttled.run([ours(number) for number in _STREAMS], folder, options.streams, options.throttle, _tell)
    name = f"{_counted(options.streams)}, {options.throttle:,} a second a stream"
    return report.table(name, options.streams, runs)


def _memory_counts(options: argparse.Namespace) -> Sequence[int]:
    return options.memory or (10_000, 100_000, 200_000)


def _counted(count: int) -> str:
    return f"{count:,} documents"


def _tell(text: str) -> None:
    print(f"  {text}", file=sys.stderr, flush=True)


def _show(
    tables: Sequence[report.Table],
    judged: Sequence[machines.Target],
    about: dict[str, Any],
    missing: str,
    *,
    markdown: bool,
) -> None:
    programs = dict.fromkeys(line.program for item in tables for line in item.lines)
    print(f"\n{'; '.join(programs)}; {', '.join(f'{name} {value}' for name, value in about.items())}")
    for item in tables:
        for action in ACTIONS:
            if item.rows(action):
                print("\n" + (report.as_markdown(item, action) if markdown else report.as_columns(item, action)))
        for text in (item.note, missing if item.note else ""):
            if text:
                print("\n" + text)
    print("\n" + "\n".join(map(str, judged)), flush=True)


if __name__ == "__main__":
    sys.exit(main())
