"""The schema's SQL is the same whether pg_restore takes it out of one archive or pg_dump runs for each section."""

from __future__ import annotations

from pathlib import Path

import pytest

from msr_async.models import Selection
from msr_async.postgres import PostgresHandler
from msr_async.postgres.schema import POST_DATA, PRE_DATA, Tool, dump, find, statements
from tests.support.servers import Database, only_newest
from tests.support.torture import load_torture

pytestmark = only_newest

SCRIPTS = {
    "that works": 'exec "{real}" "$@"',
    "that cannot read it": "exit 1",
    "that stops reading": "exec <&-; exit 1",
}


def script(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def folder_with(folder: Path, real: Path, pg_restore: str | None) -> Tool:
    """A pg_dump that notes its runs in `runs`, with the given script as the pg_restore beside it."""
    script(folder / "pg_dump", f'echo run >> "{folder}/runs"\nexec "{real}" "$@"')
    if pg_restore is not None:
        script(folder / "pg_restore", pg_restore.format(real=real.with_name("pg_restore")))
    return Tool(path=folder / "pg_dump", major=18)


async def taken(database: Database, tool: Tool) -> dict[str, list[str]]:
    """The statements of each section, without the quotes that pg_restore leaves out."""
    async with (
        PostgresHandler(database.dsn) as handler,
        handler.backup.snapshot(Selection(), complete=True) as snapshot,
    ):
        documents = await dump(tool, await handler.target(), snapshot=snapshot.token, lock_timeout=5)
    return {
        name: [
            statement.text.replace('"', "")
            for statement in statements(document, major=18, owners=True, privileges=True, kept_schemas=())
        ]
        for name, document in documents.items()
    }


async def test_one_run_of_pg_dump_gives_both_sections_whole(database: Database, tmp_path: Path) -> None:
    load_torture(database.server, database.dsn)
    real = (await find(18)).path
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    one = await taken(database, folder_with(tmp_path / "one", real, SCRIPTS["that works"]))
    two = await taken(database, folder_with(tmp_path / "two", real, None))
    assert (tmp_path / "one" / "runs").read_text() == "run\n"
    assert (tmp_path / "two" / "runs").read_text() == "run\nrun\n"
    assert one == two
    assert any(text.startswith("CREATE TABLE") for text in one[PRE_DATA])
    assert any(text.startswith("CREATE INDEX") for text in one[POST_DATA])


@pytest.mark.parametrize("kind", ["that cannot read it", "that stops reading"])
async def test_a_pg_restore_that_is_of_no_use_is_done_without(database: Database, tmp_path: Path, kind: str) -> None:
    columns = ", ".join(f"column_with_a_long_name_{number} int" for number in range(1500))
    database.sql(f"CREATE TABLE t ({columns}); CREATE INDEX i ON t (column_with_a_long_name_0)")
    tool = folder_with(tmp_path, (await find(18)).path, SCRIPTS[kind])
    found = await taken(database, tool)
    assert (tmp_path / "runs").read_text() == "run\nrun\nrun\n"
    assert found[POST_DATA][-1].startswith("CREATE INDEX i ")


async def test_a_pg_restore_that_is_no_program_is_done_without(database: Database, tmp_path: Path) -> None:
    database.sql("CREATE TABLE t (n int PRIMARY KEY)")
    tool = folder_with(tmp_path, (await find(18)).path, None)
    (tmp_path / "pg_restore").write_bytes(b"\0 not a program")
    (tmp_path / "pg_restore").chmod(0o755)
    found = await taken(database, tool)
    assert found[POST_DATA][-1].startswith("ALTER TABLE ONLY public.t")
