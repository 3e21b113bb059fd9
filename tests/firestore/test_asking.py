"""Questions side by side: their answers in order, a few at a time, and one error instead of many."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

import anyio
import pytest

from msr_async.firestore.asking import side_by_side


@pytest.mark.parametrize("number", [0, 1, 10])
async def test_the_answers_come_in_the_order_of_the_questions_a_few_at_a_time(number: int) -> None:
    under_way: set[int] = set()
    most = 0

    async def ask(place: int) -> int:
        nonlocal most
        under_way.add(place)
        most = max(most, len(under_way))
        await anyio.sleep(0.001 * (number - place))
        under_way.remove(place)
        return place

    assert await side_by_side([partial(ask, place) for place in range(number)], at_once=3) == list(range(number))
    assert most == min(3, number)


async def test_the_first_error_stops_the_others_and_comes_out_as_it_is() -> None:
    asked: list[str] = []

    def question(name: str, answer: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
        async def ask() -> None:
            asked.append(name)
            await answer()

        return ask

    async def fail() -> None:
        await anyio.sleep(0.01)
        raise ValueError("no")

    questions = [
        question("hangs", anyio.sleep_forever),
        question("fails", fail),
        question("never", anyio.sleep_forever),
    ]
    with anyio.fail_after(5), pytest.raises(ValueError, match="no"):
        await side_by_side(questions, at_once=2)
    assert asked == ["hangs", "fails"]
