"""The demo: a shop is backed up, migrated, ruined, put back, and every step of it is proved."""

from __future__ import annotations

import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio.to_thread
import asyncpg
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..config import Config
from ..errors import ConfigError, MigrationFailed, MsrError
from ..events import Observer
from ..executor import MigrationScriptExecutor
from ..models import BackupInfo
from ..observers.lines import LinesObserver
from ..observers.progress import ProgressObserver
from ..observers.wording import count, rate, seconds, size
from ..postgres import PostgresHandler
from ..testing.embedded import EmbeddedPostgres
from .demo_proof import SCHEMA, Content, compare, contents
from .demo_shop import MIGRATIONS, rows_sql
from .demo_shop import SCHEMA as SHOP

_INDENT = "   "
_COUNT = """
SELECT sum(reltuples)::bigint FROM pg_class
WHERE relkind = 'r' AND reltuples > 0 AND relnamespace = 'shop'::regnamespace
"""
_BUG = "This is a bug in msr_async: report it."


async def show(*, rows: int, keep: Path | None, hear: Observer) -> None:
    """Play the demo on standard output.

    Args:
        rows: orders in the shop; the other tables follow.
        keep: a folder that gets the migrations and the backup and stays; a temporary one if None.
        hear: an observer of everything that the library does.

    Raises:
        ToolMissing: without a PostgreSQL to start.
    """
    if not 1000 <= rows <= 20_000_000:
        raise ConfigError(f"--rows is {rows}.", hint="Give a number from 1,000 to 20,000,000.")
    stage = _Stage(hear)
    began = time.monotonic()
    stage.say("A migration that goes wrong, and the way back", style="bold")
    with _folder(keep) as folder:
        stage.chapter("A shop to lose")
        stage.say("Starting a real PostgreSQL 18 in a temporary folder ...")
        async with EmbeddedPostgres(18) as server:
            shop = await server.create_database("shop")
            await _fill(stage, shop, rows)
            before = await contents(shop)
            stage.say("Every row of every table is hashed by the server, to compare with later.")
            backup = await _back_up(stage, shop, folder)
            await _ruin(stage, shop, folder)
            stage.chapter("The proof")
            stage.say("Hashes by the server itself: every row sorted; columns, types, keys, indexes, sequences.")
            await _prove(stage, before, shop, "before", "after")
            copy = await server.create_database("copy")
            await _copy(stage, copy, backup, folder)
            await _prove(stage, before, copy, "of the shop", "of the copy")
        stage.chapter("The file is a ZIP: no lock-in")
        await anyio.to_thread.run_sync(_open_file, stage, backup.path)
    stage.farewell(time.monotonic() - began, keep)


class _Stage:
    """Where the story is told: chapters, lines and what the library reports."""

    def __init__(self, hear: Observer) -> None:
        self.out = Console(highlight=False, markup=False, emoji=False)
        self._hear = hear
        self._chapter = 0

    def chapter(self, title: str) -> None:
        self._chapter += 1
        self.out.print()
        self.out.print(Text(f"{self._chapter}  {title}", style="bold cyan"))

    def say(self, text: str, *, style: str = "") -> None:
        for line in Text(text, style=style).wrap(self.out, self.out.width - len(_INDENT)):
            line.rstrip()
            self.out.print(Text(_INDENT) + line)

    @contextmanager
    def watching(self) -> Iterator[tuple[Observer, ...]]:
        if self.out.is_terminal:
            with ProgressObserver(self.out, indent=len(_INDENT)) as bars:
                yield (self._hear, bars)
        else:
            yield (self._hear, LinesObserver(sys.stdout, indent=len(_INDENT), steps=False))

    def farewell(self, duration: float, keep: Path | None) -> None:
        self.out.print()
        gone = "The server is stopped" + (
            f"; files are in {keep}." if keep else " and everything temporary is removed."
        )
        self.say(f"All of it took {seconds(duration)}. {gone}")
        self.out.print()
        self.say("Try it on a database of yours:", style="bold")
        self.say("msr-async backup create --database-url postgresql://user@host/name")
        self.say("msr-async backup inspect          # what is in it; verify checks every byte")
        self.say("msr-async migrate --help          # with your own V<date>_<name>.up.sql files")


async def _fill(stage: _Stage, shop: str, rows: int) -> None:
    began = time.monotonic()
    connection = await asyncpg.connect(shop)
    try:
        version = await connection.fetchval("SHOW server_version")
        await connection.execute(SHOP)
        await connection.execute(rows_sql(rows))
        total = await connection.fetchval(_COUNT)
        amount = await connection.fetchval("SELECT pg_database_size(current_database())")
    finally:
        connection.terminate()
    stage.say(
        f"PostgreSQL {version} runs. The shop has {count(total, 'row')}, {size(amount)} on disk, "
        f"made in {seconds(time.monotonic() - began)}: partitions, enums, composite types, arrays, jsonb, ranges, NaN, "
        f'bytea, identity and generated columns, a materialised view, a table called "Order Lines".'
    )


async def _back_up(stage: _Stage, shop: str, folder: Path) -> BackupInfo:
    stage.chapter("Back it up")
    stage.say("All tables at one point in time, four connections, zstd. It works while the shop is open.")
    with stage.watching() as observers:
        async with PostgresHandler(shop) as handler:
            backup = await MigrationScriptExecutor(handler, _config(folder), observers=observers).create_backup()
    ratio = backup.raw_bytes / max(backup.size, 1)
    pace = rate(backup.raw_bytes, backup.duration or 0)
    stage.say(f"{size(backup.raw_bytes)} became {size(backup.size)} ({ratio:.1f} to 1) at {pace}.")
    return backup


async def _ruin(stage: _Stage, shop: str, folder: Path) -> None:
    stage.chapter("Migrate: two good ones, and one that ruins the shop")
    stage.say(
        "The third drops a column, a table and a type and deletes a third of the order lines. It commits as it goes, "
        "so no ROLLBACK can help, and then it fails."
    )
    await anyio.to_thread.run_sync(_write_migrations, folder)
    began = time.monotonic()
    with stage.watching() as observers:
        async with PostgresHandler(shop) as handler:
            executor = MigrationScriptExecutor(handler, _config(folder), observers=observers)
            try:
                await executor.migrate()
            except MigrationFailed as error:
                failure = error
            else:
                raise MsrError("The demo's bad migration did not fail.", hint="This is a bug in msr_async: report it.")
    stage.say(
        f"It backed up, ran, failed and put everything back in {seconds(time.monotonic() - began)}. Your code gets:"
    )
    stage.out.print()
    stage.say(f"{type(failure).__name__}: {failure}", style="red")


async def _prove(stage: _Stage, before: dict[str, Content], dsn: str, then: str, now: str) -> None:
    compared = compare(before, await contents(dsn))
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in ("", "rows", f"hash {then}", f"hash {now}", ""):
        table.add_column(column, justify="right" if column == "rows" else "left", overflow="fold")
    yes, no = ("✓", "✗") if stage.out.encoding.lower().startswith("utf") else ("same", "DIFFERENT")
    for item in compared:
        table.add_row(
            Text(f"{_INDENT}{item.name}"),
            f"{item.before.rows:,}" if item.before and item.name != SCHEMA else "",
            item.before.digest if item.before else "(not there)",
            item.after.digest if item.after else "(not there)",
            Text(yes, style="green") if item.same else Text(no, style="bold red"),
        )
    stage.out.print(table)
    if not all(item.same for item in compared):
        raise MsrError(
            "The database is not what it was: the hashes differ.", hint="This is a bug in msr_async: report it."
        )
    things = f"{count(len(compared) - 1, 'table')} and the schema with its sequences"
    stage.say(f"Byte for byte the same: {things}.", style="bold green")


async def _copy(stage: _Stage, dsn: str, backup: BackupInfo, folder: Path) -> None:
    stage.chapter("The same file into another, empty database")
    with stage.watching() as observers:
        async with PostgresHandler(dsn) as handler:
            executor = MigrationScriptExecutor(handler, _config(folder), observers=observers)
            await executor.restore_from_backup(backup)


def _open_file(stage: _Stage, path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    stage.say(f"python -m zipfile -l {path.name}")
    data = [item for item in members if item.filename.startswith("data/")]
    biggest = sorted(data, key=lambda item: -item.file_size)[:3]
    shown = [item for item in members if item not in data or item in biggest]
    for item in shown:
        stage.say(f"  {item.file_size:>12,}  {item.filename}")
    stage.say(f"  and {count(len(members) - len(shown), 'smaller piece')} of data: COPY text, compressed by zstd.")


def _config(folder: Path) -> Config:
    config = Config(folder=folder / "migrations", lint=False)  # advice would be noise in a story
    config.backup.folder = folder / "backups"
    config.backup.prefix = "shop"
    return config


@contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="msr-demo-") as folder:
            yield Path(folder)
    else:
        try:
            keep.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise ConfigError(f"{keep} cannot be used: {exc.strerror}.", hint="Give --keep another folder.") from exc
        yield keep


def _write_migrations(folder: Path) -> None:
    place = folder / "migrations"
    place.mkdir(exist_ok=True)
    for name, text in MIGRATIONS.items():
        (place / name).write_text(text, encoding="utf-8")
