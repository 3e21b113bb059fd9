"""Give every product its price in cents, four hundred at a time: a run that was cut goes on where it stopped."""

from typing import Any

from msr_async import Batch, MigrationContext, batches


@batches(size=400)
async def data(db: Any, ctx: MigrationContext[Any], batch: Batch) -> Any:
    """One batch, in a transaction of its own with its cursor; None when no product is left."""
    products = ctx.handler.db.collection("products")
    page = products.order_by("__name__").limit(batch.size)
    if batch.cursor is not None:
        page = page.start_after({"__name__": products.document(batch.cursor)})
    found = [product async for product in await db.get(page)]  # Firestore wants all reads before the first write
    for product in found:
        db.update(product.reference, {"cents": round(product.get("price") * 100)})
    return batch.after(found[-1].id, rows=len(found)) if found else None
