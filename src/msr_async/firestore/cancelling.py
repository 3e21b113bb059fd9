"""Cancellations that come through grpc: it raises one of its own, which no cancel scope takes for the one it sent."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from anyio.lowlevel import checkpoint_if_cancelled

T = TypeVar("T")


async def recognised(work: Awaitable[T]) -> T:
    """Await calls to the database; where a scope around them was cancelled, that scope's own cancellation comes out.

    anyio knows its cancellations by their text, and a call that was cancelled raises a new one without it: the scope
    would let it pass, and whoever had set a time limit would be cancelled himself.
    """
    try:
        return await work
    except asyncio.CancelledError:
        await checkpoint_if_cancelled()
        raise
