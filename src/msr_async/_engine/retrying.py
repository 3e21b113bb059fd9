"""What becomes of work that met somebody else's lock, a deadlock or a serialisation failure: all of it again."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

from ..config import TransactionConfig
from ..errors import ConnectionLost

T = TypeVar("T")
_LONGEST_DELAY = 10.0


async def persistently(
    work: Callable[[], Awaitable[T]],
    config: TransactionConfig,
    is_transient: Callable[[BaseException], bool],
    retried: Callable[[int, float, Exception], None],
) -> T:
    """Await `work()`, again after each transient error, until it succeeds or the retries are used up.

    A lost connection is never such an error: whether its COMMIT happened is not known.

    Args:
        retried: hears which attempt failed (from 1), the seconds until the next one, and why.
    """
    attempt = 1
    while True:
        try:
            return await work()
        except Exception as error:
            if attempt > config.retries or isinstance(error, ConnectionLost) or not is_transient(error):
                raise
            wait = delay(attempt, config.retry_delay, random.random())
            retried(attempt, wait, error)
        await anyio.sleep(wait)  # out here, so that a next error does not carry all the earlier ones as its context
        attempt += 1


def delay(attempt: int, first: float, chance: float) -> float:
    """Seconds to wait after a failed attempt (from 1).

    Twice as long each time, less up to a half, so that two that met do not meet again.

    Args:
        chance: from 0 to 1.
    """
    return min(first * 2.0 ** min(attempt - 1, 30), _LONGEST_DELAY) * (0.5 + chance / 2)
