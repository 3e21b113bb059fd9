"""The same trivial migrations, one CREATE TABLE each, as every contestant wants to find them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal, TypeAlias

Layout: TypeAlias = Literal["sql", "alembic", "yoyo"]

FIRST_VERSION = 20260101000000
"""One less than the first migration's version."""

_ENVIRONMENT = """
from alembic import context
from sqlalchemy import engine_from_config, pool

config = context.config
settings = config.get_section(config.config_ini_section, {})
engine = engine_from_config(settings, prefix="sqlalchemy.", poolclass=pool.NullPool)
with engine.connect() as connection:
    context.configure(connection=connection, transaction_per_migration=config.attributes["each"])
    with context.begin_transaction():
        context.run_migrations()
"""


Statement: TypeAlias = Callable[[int], str]


def keyed(number: int) -> str:
    """A table, its index, its TOAST table and that one's index: most of the time is the server's own."""
    return f"CREATE TABLE t_{number} (id bigint PRIMARY KEY, name text)"


def plain(number: int) -> str:
    """A table and nothing else."""
    return f"CREATE TABLE t_{number} (id int)"


def write(folder: Path, layout: Layout, count: int, statement: Statement) -> Path:
    """Write `count` migrations into the folder, which is made, and return it."""
    folder.mkdir(parents=True)
    _WRITERS[layout](folder, count, statement)
    return folder


def write_spread(folder: Path, count: int, *, a_folder: int = 1_000) -> Path:
    """The same as .sql files of ours in sub-folders."""
    for number in range(1, count + 1):
        place = folder / f"part_{(number - 1) // a_folder:03}"
        place.mkdir(parents=True, exist_ok=True)
        name = f"V{FIRST_VERSION + number}_t_{number}"
        (place / f"{name}.up.sql").write_text(f"{keyed(number)};\n")
    return folder


def _sql(folder: Path, count: int, statement: Statement) -> None:
    for number in range(1, count + 1):
        (folder / f"V{FIRST_VERSION + number}_t_{number}.up.sql").write_text(f"{statement(number)};\n")


def _alembic(folder: Path, count: int, statement: Statement) -> None:
    (folder / "env.py").write_text(_ENVIRONMENT)
    (folder / "versions").mkdir()
    for number in range(1, count + 1):
        before = f'"r{number - 1:05}"' if number > 1 else "None"
        (folder / "versions" / f"r{number:05}_t_{number}.py").write_text(
            f'from alembic import op\n\nrevision = "r{number:05}"\ndown_revision = {before}\n\n\n'
            f'def upgrade():\n    op.execute("{statement(number)}")\n\n\n'
            f'def downgrade():\n    op.execute("DROP TABLE t_{number}")\n'
        )


def _yoyo(folder: Path, count: int, statement: Statement) -> None:
    for number in range(1, count + 1):
        depends = f"-- depends: m{number - 1:05}" if number > 1 else "-- depends:"
        (folder / f"m{number:05}.sql").write_text(f"--\n{depends}\n\n{statement(number)};\n")


_WRITERS: dict[Layout, Callable[[Path, int, Statement], None]] = {"sql": _sql, "alembic": _alembic, "yoyo": _yoyo}
