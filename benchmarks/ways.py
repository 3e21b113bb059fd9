"""The contestants: what each runs to back up or to restore, and from whose file."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from msr_async.testing.embedded import EmbeddedPostgres

Action: TypeAlias = Literal["backup", "restore"]

OURS = "msr_async"
PG_DUMP = "pg_dump -Fd -j2"
PG_DUMP_ZSTD = "pg_dump -Fd -j2 --compress=zstd:1"
PG_RESTORE = "pg_restore -j1"

GUIDE = "guide: one JSON string"
GUIDE_ROWS = "guide: INSERT row by row"
_GUIDE_BACKUP_MOST = 150 * 10**6
_GUIDE_RESTORE_MOST = 15 * 10**6
"""Bytes of database. Beyond that it would take hours, or all memory; nothing is extrapolated."""


@dataclass(frozen=True, kw_only=True)
class Way:
    """One line of the table. `command` takes the database's DSN and the file (or folder) to write or to read."""

    action: Action
    name: str
    command: Callable[[str, Path], Sequence[str]]
    file: str
    """The name of the file that it writes or reads: a restore reads what the backup of the same file wrote."""
    baseline: str
    program: str = ""
    needs_schema: bool = False
    """True when it cannot make the tables: they are made before the clock starts."""


@dataclass(frozen=True, kw_only=True)
class Programs:
    """Where PostgreSQL's own programs are."""

    pg_dump: Path
    pg_restore: Path
    compressing: dict[str, Path]
    """For `zstd:1` and `lz4:1` a pg_dump that was built with it, where there is one."""


def find_programs(server: EmbeddedPostgres, others: Sequence[Path]) -> Programs:
    """The server's own programs; for what those cannot compress, the first of `others` or of the machine's that can."""
    own = server.bin_dir / "pg_dump"
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    on_path = [Path(found)] if (found := shutil.which("pg_dump")) else []
    candidates = [own, *others, *(folder / "pg_dump" for folder in folders), *on_path]
    compressing = {}
    for method in ("zstd:1", "lz4:1"):
        able = (path for path in candidates if _can(path, method, server))
        if (chosen := next(able, None)) is not None:
            compressing[method] = chosen
    return Programs(pg_dump=own, pg_restore=server.bin_dir / "pg_restore", compressing=compressing)


def _can(pg_dump: Path, method: str, server: EmbeddedPostgres) -> bool:
    """Whether it really does it: a build without it takes the option's name and refuses only then."""
    if not os.access(pg_dump, os.X_OK):
        return False
    command = [
        str(pg_dump),
        "-Fc",
        f"--compress={method}",
        "--schema-only",
        "--no-sync",
        "-f",
        os.devnull,
        server.dsn(),
    ]
    return subprocess.run(command, capture_output=True).returncode == 0


def version_of(program: Path) -> str:
    return subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout.strip()


def ways(programs: Programs, size: int) -> list[Way]:
    """All contestants for a database of `size` bytes, in the order of the table."""
    return [*_backups(programs, size), *_restores(programs, size)]


def _backups(programs: Programs, size: int) -> Iterator[Way]:
    def ours(dsn: str, file: Path) -> list[str]:
        return [sys.executable, "-m", "benchmarks.ours", "backup", dsn, str(file)]

    def pg_dump(program: Path, *options: str) -> Callable[[str, Path], Sequence[str]]:
        return lambda dsn, file: [str(program), "-Fd", "-j2", *options, "-f", str(file), dsn]

    own = programs.pg_dump
    yield Way(action="backup", name=OURS, command=ours, file="ours.msrbak", baseline=PG_DUMP)
    yield Way(
        action="backup", name=PG_DUMP, command=pg_dump(own), file="gzip", baseline=PG_DUMP, program=version_of(own)
    )
    for method, program in programs.compressing.items():
        name = f"pg_dump -Fd -j2 --compress={method}"
        command = pg_dump(program, f"--compress={method}")
        file = method.replace(":", "")
        yield Way(action="backup", name=name, command=command, file=file, baseline=PG_DUMP, program=version_of(program))
    for level in (1, 0):
        yield Way(
            action="backup",
            name=f"pg_dump -Fd -j2 -Z{level}",
            command=pg_dump(own, f"-Z{level}"),
            file=f"z{level}",
            baseline=PG_DUMP,
            program=version_of(own),
        )
    if size <= _GUIDE_BACKUP_MOST:
        yield Way(action="backup", name=GUIDE, command=_guide("backup"), file="guide.json", baseline=PG_DUMP)


def _restores(programs: Programs, size: int) -> Iterator[Way]:
    def ours(dsn: str, file: Path) -> list[str]:
        return [sys.executable, "-m", "benchmarks.ours", "restore", dsn, str(file)]

    def pg_restore(*options: str) -> Callable[[str, Path], Sequence[str]]:
        return lambda dsn, file: [str(programs.pg_restore), *options, "-d", dsn, str(file)]

    version = version_of(programs.pg_restore)
    yield Way(action="restore", name=f"{OURS}, one transaction", command=ours, file="ours.msrbak", baseline=PG_RESTORE)
    for options in (("-j1",), ("-j2",), ("-j1", "--single-transaction")):
        yield Way(
            action="restore",
            name=" ".join(("pg_restore", *options)),
            command=pg_restore(*options),
            file="gzip",
            baseline=PG_RESTORE,
            program=version,
        )
    if size <= _GUIDE_RESTORE_MOST:
        yield Way(
            action="restore",
            name=GUIDE_ROWS,
            command=_guide("restore"),
            file="guide.json",
            baseline=PG_RESTORE,
            needs_schema=True,
        )


def _guide(action: Action) -> Callable[[str, Path], Sequence[str]]:
    return lambda dsn, file: [sys.executable, "-m", "benchmarks.guide", action, dsn, str(file)]
