"""Data steps on a real server: committed batch by batch, gone on with after a failure, tried in a dry run."""

from __future__ import annotations

from pathlib import Path

import asyncpg
import pytest

from msr_async import Config, Event, MigrationFailed, MigrationScriptExecutor, RollbackStrategy
from msr_async.events import BatchFinished
from msr_async.postgres import PostgresHandler
from tests.support.servers import Database, only_newest

pytestmark = only_newest

TABLE = (
    "CREATE TABLE orders (id int PRIMARY KEY, total int); INSERT INTO orders SELECT g FROM generate_series(1, 950) g;"
)
FILL = """
from msr_async.batching import batches

async def up(db, ctx):
    await db.execute("ALTER TABLE orders ADD currency text")

@batches(size=100)
async def data(db, ctx, batch):
    rows = await db.fetch(
        "UPDATE orders SET total = coalesce(total, 0) + 1, currency = 'EUR' WHERE id IN "
        "(SELECT id FROM orders WHERE id > $1 ORDER BY id LIMIT $2) RETURNING id",
        batch.cursor or 0, batch.size,
    )
    {}
    return batch.after(max(row["id"] for row in rows), rows=len(rows)) if rows else None
"""


async def rows(dsn: str, query: str) -> list[tuple[object, ...]]:
    connection = await asyncpg.connect(dsn)
    try:
        return [tuple(row) for row in await connection.fetch(query)]
    finally:
        await connection.close()


async def test_a_failed_data_step_goes_on_where_it_was(database: Database, tmp_path: Path) -> None:
    (tmp_path / "V202601010001_orders.up.sql").write_text(TABLE)
    path = tmp_path / "V202601010002_fill.py"
    path.write_text(FILL.format("if batch.number == 4: raise OSError('stop')"))
    config = Config(folder=tmp_path, rollback_strategy=RollbackStrategy.NONE)
    heard: list[Event] = []
    async with PostgresHandler(database.dsn) as handler:
        executor = MigrationScriptExecutor(handler, config, observers=(heard.append,))
        with pytest.raises(MigrationFailed, match="Its finished batches stay, and the next run goes on after them"):
            await executor.migrate()
        assert await rows(database.dsn, "SELECT count(*) FROM orders WHERE total = 1") == [(300,)]
        path.write_text(FILL.format("").replace("await db.execute", "raise OSError('up again')  #"))
        await executor.migrate(dry_run=True)
        assert await rows(database.dsn, "SELECT count(*) FROM orders WHERE total = 1") == [(300,)]
        await executor.migrate()
    assert await rows(database.dsn, "SELECT total, currency, count(*) FROM orders GROUP BY 1, 2") == [(1, "EUR", 950)]
    assert await rows(database.dsn, "SELECT id FROM schema_version ORDER BY 1") == [
        ("202601010001",),
        ("202601010002",),
    ]
    assert await rows(database.dsn, "SELECT key FROM schema_version_notes WHERE key LIKE 'batches:%'") == []
    told = [(event.number, event.rows) for event in heard if isinstance(event, BatchFinished)]
    assert told == [(number, 100) for number in range(1, 10)] + [(10, 50)]
