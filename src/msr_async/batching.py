"""What a migration's author writes a large data change with: a step that runs in committed batches and resumes.

from msr_async import batches

@batches(size=5_000, pause=0.05)
async def data(db, ctx, batch):
    rows = await db.fetch("UPDATE ... WHERE id > $1 ... RETURNING id", batch.cursor or 0)
    return batch.after(max(row["id"] for row in rows), rows=len(rows)) if rows else None
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from msgspec import Struct

from .errors import ConfigError

DataStep = Callable[[Any, Any, "Batch"], Awaitable["Done | None"]]
_StepT = TypeVar("_StepT", bound=DataStep)

ATTRIBUTE = "__msr_batches__"
"""Where the settings of a data step are found on its function."""


class BatchSettings(Struct, frozen=True, kw_only=True):
    size: int
    """Rows a batch, for the step to keep to."""
    pause: float
    """Seconds between two batches, for the application to come through."""


class Done(Struct, frozen=True, kw_only=True):
    """What one batch did."""

    cursor: Any
    rows: int


class Batch(Struct, frozen=True, kw_only=True):
    """The third argument of a data step: where to go on."""

    cursor: Any
    """What the batch before handed to `after`, also if that was before a kill; None at the very first."""
    size: int
    number: int
    """From 1, counted over all runs."""

    def after(self, cursor: Any, *, rows: int) -> Done:
        """The answer of a batch that did something. The cursor is a JSON value; it is committed with the batch."""
        return Done(cursor=cursor, rows=rows)


def batches(*, size: int = 1_000, pause: float = 0.0) -> Callable[[_StepT], _StepT]:
    """Make `async def data(db, ctx, batch)` the data step of its migration.

    It is called again and again after `up`, each time in a transaction of its own, until it returns None.

    Args:
        size: rows a batch; given to the step as `batch.size`.
        pause: seconds between two batches.
    """
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise ConfigError(f"size is {size!r}.", hint="Give a whole number of rows from 1 up.")
    if not pause >= 0:
        raise ConfigError(f"pause is {pause!r}.", hint="Give seconds from 0 up.")

    def mark(step: _StepT) -> _StepT:
        setattr(step, ATTRIBUTE, BatchSettings(size=size, pause=pause))
        return step

    return mark
