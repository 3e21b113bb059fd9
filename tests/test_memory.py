"""What the database in memory does beyond the contracts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from msr_async import ConnectionFailed, DatabaseError, MigrationScriptExecutor, Script, ScriptFailed
from msr_async.protocols import WorkOptions
from msr_async.testing import Conflict, MemoryConnection, MemoryDatabase, MemoryHandler

TRANSACTION = WorkOptions()
WITHOUT = WorkOptions(transaction=False)


async def test_rows_are_copies_both_ways() -> None:
    async with MemoryHandler() as handler:
        row: dict[str, Any] = {"tags": ["a"]}
        await handler.db.put("t", "1", row)
        row["tags"].append("b")
        read = await handler.db.get("t", "1")
        read["tags"].append("c")
        assert await handler.db.get("t", "1") == {"tags": ["a"]}


async def test_two_transactions_that_change_one_table_do_not_both_win() -> None:
    async with MemoryHandler() as handler:

        async def outer(conn: MemoryConnection) -> None:
            await conn.put("t", "a", 1)
            await handler.run(inner, TRANSACTION)

        async def inner(conn: MemoryConnection) -> None:
            await conn.put("t", "b", 2)

        with pytest.raises(Conflict, match="changed by another transaction"):
            await handler.run(outer, TRANSACTION)
        assert await handler.db.rows("t") == {"b": 2}


async def test_a_transaction_goes_on_seeing_what_it_saw() -> None:
    async with MemoryHandler() as handler:
        await handler.db.put("t", "a", 1)

        async def work(conn: MemoryConnection) -> dict[str, Any]:
            await handler.db.put("t", "b", 2)
            return await conn.rows("t")

        assert await handler.run(work, TRANSACTION) == {"a": 1}


async def test_a_connection_is_of_no_use_after_its_transaction() -> None:
    async with MemoryHandler() as handler:
        kept: list[MemoryConnection] = []

        async def work(conn: MemoryConnection) -> None:
            await conn.put("t", "a", 1)
            kept.append(conn)

        await handler.run(work, TRANSACTION)
        with pytest.raises(DatabaseError, match="has ended"):
            await kept[0].put("t", "a", 2)
        assert await handler.db.rows("t") == {"a": 1}


async def test_what_is_not_there_is_a_clear_error() -> None:
    async with MemoryHandler() as handler:
        await handler.db.create("t")
        assert await handler.db.get("t", "a") is None
        assert await handler.db.get("none", "a") is None
        for call in (handler.db.rows("none"), handler.db.drop("none"), handler.db.delete("none", "a")):
            with pytest.raises(DatabaseError, match="There is no table none"):
                await call
        with pytest.raises(DatabaseError, match="has no row a"):
            await handler.db.delete("t", "a")


async def test_a_row_that_json_cannot_say_is_refused() -> None:
    async with MemoryHandler() as handler:
        for row in (float("nan"), {1, 2}, b"bytes"):
            with pytest.raises((TypeError, ValueError)):
                await handler.db.put("t", "a", row)
        assert await handler.db.tables() == []


async def test_a_handler_that_is_not_open_says_so() -> None:
    handler = MemoryHandler("shop")
    assert "closed" in repr(handler)
    with pytest.raises(ConnectionFailed, match="shop is not open"):
        await MigrationScriptExecutor(handler).create_backup()
    async with handler:
        await handler.check_connection()
        assert "open" in repr(handler)
    with pytest.raises(ConnectionFailed):
        await handler.check_connection()


async def test_handlers_share_a_database_that_is_handed_in() -> None:
    database = MemoryDatabase()
    async with MemoryHandler(database=database) as one, MemoryHandler("two", database=database) as two:
        await one.db.put("t", "a", 1)
        assert await two.db.rows("t") == {"a": 1}
    assert repr(database) == "<MemoryDatabase, 1 tables>"


def script(*lines: str) -> Script:
    return Script(path=Path("V1_x.up.sql"), text="\n".join(lines), language="sql")


async def test_its_sql_is_lines_of_puts_and_drops() -> None:
    async with MemoryHandler() as handler:
        text = script("-- a comment", "put t 'a key' \"a 'value'\";  -- and one more", "", "put u b 1", "drop u")
        assert handler.inspect(text) == []
        await handler.run(lambda conn: handler.execute(conn, text), TRANSACTION)
        assert await handler.db.rows("t") == {"a key": "a 'value'"}
        assert await handler.db.tables() == ["t"]


async def test_a_line_that_it_does_not_know_is_found_before_and_while_it_runs() -> None:
    async with MemoryHandler() as handler:
        bad = ("SELECT 1", "put t a", "drop", "alone", "alone put t", "put t a 1 2")
        issues = handler.inspect(script("put t a 1", *bad))
        assert [(issue.code, issue.line) for issue in issues] == [("no-sql", number) for number in range(2, 8)]
        for line in bad:
            with pytest.raises(ScriptFailed):
                await handler.run(lambda conn, line=line: handler.execute(conn, script(line)), WITHOUT)  # type: ignore[misc]
        assert await handler.db.tables() == []


async def test_a_line_that_stands_alone_cannot_run_in_a_transaction() -> None:
    async with MemoryHandler() as handler:
        text = script("alone put t a 1")
        assert handler.outside(text)
        with pytest.raises(ScriptFailed, match="cannot run in a transaction"):
            await handler.run(lambda conn: handler.execute(conn, text), TRANSACTION)
        await handler.run(lambda conn: handler.execute(conn, text), WITHOUT)
        assert await handler.db.rows("t") == {"a": "1"}


async def test_a_changed_script_is_not_taken_for_half_done() -> None:
    async with MemoryHandler() as handler:
        await handler.run(handler.schema_version.ensure, TRANSACTION)
        for value in ("1", "2"):
            text = script(f"put t a {value}")
            await handler.run(lambda conn, text=text: handler.execute(conn, text, resume="statements:1"), WITHOUT)  # type: ignore[misc]
        assert await handler.db.rows("t") == {"a": "2"}
