"""One document for what the whole shop agrees on."""

from typing import Any

from msr_async import MigrationContext


async def up(db: Any, ctx: MigrationContext[Any]) -> None:
    """`db` is a transaction of google-cloud-firestore: the document and the line in the history come together."""
    db.create(ctx.handler.db.document("settings/shop"), {"currency": "EUR"})


async def down(db: Any, ctx: MigrationContext[Any]) -> None:
    db.delete(ctx.handler.db.document("settings/shop"))
