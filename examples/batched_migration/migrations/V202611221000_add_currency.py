"""Give every order a currency, a thousand at a time, while the shop goes on."""

from typing import Any

from msr_async import Batch, MigrationContext, batches


async def up(db: Any, ctx: MigrationContext[Any]) -> None:
    """Once, before the first batch. New orders have their currency from here on."""
    await db.execute("ALTER TABLE orders ADD COLUMN currency text")
    await db.execute("ALTER TABLE orders ALTER COLUMN currency SET DEFAULT 'EUR'")


@batches(size=1_000, pause=0.05)
async def data(db: Any, ctx: MigrationContext[Any], batch: Batch) -> Any:
    """One batch, in a transaction of its own with its cursor; None when no order is left."""
    rows = await db.fetch(
        "UPDATE orders SET currency = 'EUR' WHERE id IN "
        "(SELECT id FROM orders WHERE id > $1 AND currency IS NULL ORDER BY id LIMIT $2) RETURNING id",
        batch.cursor or 0,
        batch.size,
    )
    return batch.after(max(row["id"] for row in rows), rows=len(rows)) if rows else None


async def down(db: Any, ctx: MigrationContext[Any]) -> None:
    """All at once: dropping a column touches no row."""
    await db.execute("ALTER TABLE orders DROP COLUMN currency")
