"""The torture database and the question whether two databases are the same, asked of pg_dump."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from pathlib import Path

from msr_async.testing.embedded import EmbeddedPostgres
from tests.support.servers import FULL_BUILDS, QUIET_PSQL

DATA = Path(__file__).parents[1] / "data"

_FULL_BUILD_ONLY = "-- full build only"
_COPY = re.compile(r"COPY .* FROM stdin;$")
_RESTRICT = re.compile(r"\\(un)?restrict [0-9A-Za-z]+$")


def without_extensions(text: str) -> str:
    """The script without the lines that want contrib extensions, ICU or libxml."""
    return "\n".join(line for line in text.split("\n") if not line.endswith(_FULL_BUILD_ONLY))


def torture_script(major: int) -> str:
    """The whole script for one of our servers."""
    text = (DATA / "torture.sql").read_text(encoding="utf-8")
    if major not in FULL_BUILDS:
        text = without_extensions(text)
    if major >= 18:
        text += (DATA / "torture18.sql").read_text(encoding="utf-8")
    return text


def load_torture(server: EmbeddedPostgres, dsn: str) -> None:
    """Fill an empty database with everything that is hard to carry."""
    server.run("psql", *QUIET_PSQL, dsn, stdin=torture_script(server.version))


def same_database(server: EmbeddedPostgres, dsn_a: str, dsn_b: str) -> str:
    """What `pg_dump` sees differ between two databases, as a unified diff; empty when they are the same.

    Schema, data, sequences, owners, privileges, comments and large objects count; the order of rows does not.
    """
    a, b = dump_lines(server, dsn_a), dump_lines(server, dsn_b)
    if a == b:
        return ""
    return "\n".join(difflib.unified_diff(_shown(a), _shown(b), "a", "b", lineterm="", n=2))


def _shown(lines: list[str]) -> list[str]:
    """Long lines cut to a length that a person reads, and still different when they were."""
    return [line if len(line) < 500 else f"{line[:400]}... {len(line)} characters, {hash(line):x}" for line in lines]


def dump_lines(server: EmbeddedPostgres, dsn: str) -> list[str]:
    """The lines of a plain `pg_dump` of schema and data, each table's rows in sorted order."""
    return list(_rows_sorted(server.run("pg_dump", "--no-sync", "-d", dsn).split("\n")))


def _rows_sorted(lines: list[str]) -> Iterator[str]:
    """Sort what stands between `COPY ... FROM stdin;` and its end; leave out the keys that are new in every dump."""
    rows: list[str] | None = None
    for line in lines:
        if rows is not None:
            if line == "\\.":
                yield from sorted(rows)
                yield line
                rows = None
            else:
                rows.append(line)
        elif not _RESTRICT.match(line):
            yield line
            rows = [] if _COPY.match(line) else None
    assert rows is None, "the dump ends in the middle of a table"
