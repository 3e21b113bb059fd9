"""The command: `python -m benchmarks --size 100MB --size 1GB --rounds 3`."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from msr_async.testing.embedded import EmbeddedPostgres

from . import data, report
from .measuring import CommandFailed
from .rounds import Arena
from .ways import Way, find_programs, ways


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    documents = []
    try:
        for size in options.size or [data.parse_size("100MB")]:
            documents.append(_bench(size, options))
    except CommandFailed as error:
        print(error, file=sys.stderr)
        return 1
    if options.json:
        options.json.write_text(json.dumps(documents, indent=1) + "\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--size", action="append", type=data.parse_size, help="of the database; may be repeated (100MB)"
    )
    parser.add_argument("--rounds", type=int, default=3, help="how often everybody runs (3)")
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="WORDS",
        help="run only lines with these words, such as 'restore: msr_async'",
    )
    parser.add_argument("--postgres", type=int, default=18, help="the server's major version (18)")
    parser.add_argument(
        "--pg-dump",
        action="append",
        type=Path,
        default=[],
        help="another pg_dump, asked for zstd and lz4 if the server's has none",
    )
    parser.add_argument("--json", type=Path, help="write everything there too")
    parser.add_argument("--markdown", action="store_true", help="print the tables as benchmarks/README.md has them")
    return parser


def _bench(size: int, options: argparse.Namespace) -> dict[str, Any]:
    def tell(text: str) -> None:
        print(f"  {text}", file=sys.stderr, flush=True)

    about = report.machine(Path(tempfile.gettempdir()))
    # The contestants' settings are the server's defaults: fsync on, 128 MB of shared buffers.
    server = EmbeddedPostgres(options.postgres)
    server.start()
    try:
        server.run("createdb", "-T", "template0", "source")
        started = time.monotonic()
        data.fill(server, "source", size)
        real_size = data.size_of(server, "source")
        tell(f"database of {real_size / 1e6:,.0f} MB made in {time.monotonic() - started:.0f} s")
        others = [Path(item) for item in os.environ.get("MSR_BENCH_PG_DUMP", "").split(os.pathsep) if item]
        programs = find_programs(server, [*options.pg_dump, *others])
        everyone = ways(programs, size)
        with tempfile.TemporaryDirectory(prefix="msr-bench-") as folder:
            runs = Arena(server=server, folder=Path(folder)).all_rounds(
                _chosen(everyone, options.only), everyone, options.rounds, tell
            )
    finally:
        server.stop()
    found = report.lines(runs)
    document = report.as_json(found, real_size, options.rounds, about)
    _show(document, found, markdown=options.markdown)
    if "zstd:1" not in programs.compressing:
        print(
            "No pg_dump here was built with zstd: name one with --pg-dump (benchmarks/README.md says where to get it)."
        )
    return document


def _chosen(everyone: Sequence[Way], only: Sequence[str]) -> list[Way]:
    return [way for way in everyone if not only or any(words in f"{way.action}: {way.name}" for words in only)]


def _show(document: dict[str, Any], found: Sequence[report.Line], *, markdown: bool) -> None:
    about = ", ".join(f"{name} {value}" for name, value in document["machine"].items())
    print(
        f"\nA database of {document['database_bytes'] / 1e6:,.0f} MB, medians of {document['rounds']} rounds; {about}"
    )
    for action in ("backup", "restore"):
        if any(line.action == action for line in found):
            print()
            if markdown:
                print(report.as_markdown(found, action))
            else:
                report.show(found, action)
    print("\n" + "\n".join(map(str, report.targets(found))), flush=True)


if __name__ == "__main__":
    sys.exit(main())
