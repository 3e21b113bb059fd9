"""What the database in memory does beyond the contracts."""

from __future__ import annotations

from typing import Any

import pytest

from msr_async import ConnectionFailed, DatabaseError, MigrationScriptExecutor
from msr_async.protocols import TransactionConfig
from msr_async.testing import MemoryConnection, MemoryDatabase, MemoryHandler

TRANSACTION = TransactionConfig()


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
            await handler.run(inner, transaction=TRANSACTION)

        async def inner(conn: MemoryConnection) -> None:
            await conn.put("t", "b", 2)

        with pytest.raises(DatabaseError, match="changed by another transaction"):
            await handler.run(outer, transaction=TRANSACTION)
        assert await handler.db.rows("t") == {"b": 2}


async def test_a_transaction_goes_on_seeing_what_it_saw() -> None:
    async with MemoryHandler() as handler:
        await handler.db.put("t", "a", 1)

        async def work(conn: MemoryConnection) -> dict[str, Any]:
            await handler.db.put("t", "b", 2)
            return await conn.rows("t")

        assert await handler.run(work, transaction=TRANSACTION) == {"a": 1}


async def test_a_connection_is_of_no_use_after_its_transaction() -> None:
    async with MemoryHandler() as handler:
        kept: list[MemoryConnection] = []

        async def work(conn: MemoryConnection) -> None:
            await conn.put("t", "a", 1)
            kept.append(conn)

        await handler.run(work, transaction=TRANSACTION)
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
