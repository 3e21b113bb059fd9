"""When is work tried again, and how long is waited before it?"""

from __future__ import annotations

import pytest

from msr_async import ConnectionLost
from msr_async._engine.retrying import delay, persistently
from msr_async.config import TransactionConfig


class Passing(Exception):
    """One that passes."""


def is_passing(error: BaseException) -> bool:
    return isinstance(error, Passing | ConnectionLost)


class Work:
    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.retried: list[tuple[int, float, Exception]] = []

    async def __call__(self) -> str:
        if self.errors:
            raise self.errors.pop(0)
        return "done"

    async def persistently(self, retries: int = 3) -> str:
        config = TransactionConfig(retries=retries, retry_delay=0.001)
        return await persistently(self, config, is_passing, lambda *told: self.retried.append(told))


async def test_it_is_tried_until_it_succeeds() -> None:
    first, second = Passing("1"), Passing("2")
    work = Work(first, second)
    assert await work.persistently() == "done"
    assert [(attempt, error) for attempt, _, error in work.retried] == [(1, first), (2, second)]
    assert all(0 < wait <= 0.002 for _, wait, _ in work.retried)


async def test_it_ends_with_the_last_error_alone() -> None:
    last = Passing("3")
    work = Work(Passing("1"), Passing("2"), last)
    with pytest.raises(Passing) as raised:
        await work.persistently(retries=2)
    assert raised.value is last
    assert (len(work.retried), last.__context__) == (2, None)


async def test_without_retries_the_first_error_is_the_last() -> None:
    work = Work(Passing("1"))
    with pytest.raises(Passing):
        await work.persistently(retries=0)
    assert work.retried == []


@pytest.mark.parametrize("error", [ValueError("no"), ConnectionLost("gone")])
async def test_other_errors_and_lost_connections_come_out_at_once(error: Exception) -> None:
    work = Work(error)
    with pytest.raises(type(error)):
        await work.persistently()
    assert work.retried == []


def test_each_delay_is_twice_the_one_before_with_jitter_and_has_an_end() -> None:
    assert [delay(attempt, 0.1, 1.0) for attempt in (1, 2, 3)] == pytest.approx([0.1, 0.2, 0.4])
    assert delay(1, 0.1, 0.0) == pytest.approx(0.05)
    assert (delay(20, 0.1, 1.0), delay(5_000, 0.1, 1.0)) == (10.0, 10.0)
    assert delay(7, 0.0, 1.0) == 0.0
