"""What is to be written and what is to be deleted: a backup's documents beside those of the target, both in order."""

from __future__ import annotations

import itertools
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from typing import TypeAlias

from msgspec import Struct

from ..errors import RestoreFailed
from .names import in_order

Item: TypeAlias = tuple[str, bytes]
"""A path and its document."""
Pages: TypeAlias = AsyncIterator[Sequence[Item]]

_MOST_DELETED = 1000
"""In one answer: what the target has too much may be more than the memory holds."""


class Changes(Struct, frozen=True, kw_only=True):
    """What a stretch of both asks for; stretches come in order."""

    write: Sequence[Item] = ()
    """From the backup."""
    delete: Sequence[Item] = ()
    """What the target holds, and the backup does not."""
    unchanged: int = 0


async def joined(
    backup: Pages, target: Pages, same: Callable[[bytes, bytes], bool] | None = None
) -> AsyncGenerator[Changes, None]:
    """Walk along both.

    Args:
        same: whether a document of the backup and the target's of that path are the same; None: never.

    Raises:
        RestoreFailed: the backup's documents are not in the database's order, or one comes twice.
    """
    live, theirs = await _advance(iter(()), target)
    last: Sequence[str] = ()
    async for page in backup:
        paths = [path for path, _ in page]
        _check_order([*last, *paths])
        last = paths[-1:] or last
        if theirs is None or in_order((*last, theirs[0])):
            yield Changes(write=page)  # nothing of the target stands among these
            continue
        write: list[Item] = []
        delete: list[Item] = []
        unchanged = 0
        for item in page:
            path = item[0]
            while theirs is not None and theirs[0] != path and in_order((theirs[0], path)):
                delete.append(theirs)
                if len(delete) >= _MOST_DELETED:
                    yield Changes(delete=delete)
                    delete = []
                live, theirs = await _advance(live, target)
            if theirs is None or theirs[0] != path:
                write.append(item)
                continue
            if same is not None and same(item[1], theirs[1]):
                unchanged += 1
            else:
                write.append(item)
            theirs = next(live, None)
            if theirs is None:
                live, theirs = await _advance(live, target)
        yield Changes(write=write, delete=delete, unchanged=unchanged)
    while theirs is not None:
        yield Changes(delete=[theirs, *live])
        live, theirs = await _advance(iter(()), target)


def _check_order(paths: Sequence[str]) -> None:
    if not in_order(paths):
        before, after = next(pair for pair in itertools.pairwise(paths) if not in_order(pair))
        raise RestoreFailed(
            f"The backup is not in order: {after} does not stand behind {before}.", hint="Restore another one."
        )


async def _advance(live: Iterator[Item], target: Pages) -> tuple[Iterator[Item], Item | None]:
    """The next document of the target, from the next page where this one has ended."""
    item = next(live, None)
    while item is None:
        page = await anext(target, None)
        if page is None:
            break
        live = iter(page)
        item = next(live, None)
    return live, item


async def nothing() -> AsyncGenerator[Sequence[Item], None]:
    """The pages of a target that is not looked at."""
    return
    yield
