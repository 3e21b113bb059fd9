"""Who takes part: what each runs to migrate a database, and how it is asked what it has applied."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from msr_async.models import VERSION

from .files import Layout

OURS = "msr_async"
OURS_COMMAND = "msr_async, command line"
BARE = "bare asyncpg loop"
ALEMBIC = "alembic"
ALEMBIC_EACH = "alembic, a transaction each"
YOYO = "yoyo"


@dataclass(frozen=True, kw_only=True)
class Contestant:
    """One line of a table. `command` takes the database's DSN and the folder of the migrations."""

    name: str
    layout: Layout
    command: Callable[[str, Path], Sequence[str]]
    applied: str
    """The SQL that counts what its history says was applied."""
    packages: tuple[str, ...]
    """What has to be installed, by the names of distributions."""

    @property
    def missing(self) -> tuple[str, ...]:
        return tuple(name for name in self.packages if importlib.util.find_spec(_MODULES.get(name, name)) is None)

    @property
    def program(self) -> str:
        ours = [f"msr_async {VERSION}"] if self.name.startswith(OURS) else []  # it may run from a checkout
        return ", ".join([*ours, *(f"{name} {version(name)}" for name in self.packages)])


_MODULES = {"yoyo-migrations": "yoyo"}


def _program(module: str, *more: str) -> Callable[[str, Path], Sequence[str]]:
    name = f"benchmarks.migrations.{module}"
    return lambda dsn, folder: [sys.executable, "-m", name, dsn, str(folder), *more]


def _command_line(dsn: str, folder: Path) -> Sequence[str]:
    settings = ["--migrations", str(folder), "--database-url", dsn, "--strategy", "none", "--mode", "manual", "--quiet"]
    return [sys.executable, "-m", "msr_async", "migrate", *settings]


_OUR_HISTORY = "SELECT count(*) FROM schema_version"
_ALEMBIC_HISTORY = "SELECT substr(version_num, 2)::int FROM alembic_version"
_ALEMBIC_PACKAGES = ("alembic", "sqlalchemy", "psycopg")

EVERYBODY = (
    Contestant(name=OURS, layout="sql", command=_program("with_ours"), applied=_OUR_HISTORY, packages=("asyncpg",)),
    Contestant(
        name=OURS_COMMAND,
        layout="sql",
        command=_command_line,
        applied=_OUR_HISTORY,
        packages=("asyncpg", "cyclopts", "rich"),
    ),
    Contestant(
        name=BARE,
        layout="sql",
        command=_program("with_asyncpg"),
        applied="SELECT count(*) FROM history",
        packages=("asyncpg",),
    ),
    Contestant(
        name=ALEMBIC,
        layout="alembic",
        command=_program("with_alembic", "all"),
        applied=_ALEMBIC_HISTORY,
        packages=_ALEMBIC_PACKAGES,
    ),
    Contestant(
        name=ALEMBIC_EACH,
        layout="alembic",
        command=_program("with_alembic", "each"),
        applied=_ALEMBIC_HISTORY,
        packages=_ALEMBIC_PACKAGES,
    ),
    Contestant(
        name=YOYO,
        layout="yoyo",
        command=_program("with_yoyo"),
        applied="SELECT count(*) FROM _yoyo_migration",
        packages=("yoyo-migrations", "psycopg"),
    ),
)
"""In the order of the tables."""
