"""Several questions to the server at once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import anyio

T = TypeVar("T")


async def side_by_side(questions: Sequence[Callable[[], Awaitable[T]]], *, at_once: int = 4) -> list[T]:
    """The answers in the order of the questions; a few are asked at a time, for each may take seconds.

    The first error stops them all and is raised.
    """
    answers: dict[int, T] = {}
    failures: list[Exception] = []
    waiting = iter(enumerate(questions))
    async with anyio.create_task_group() as group:

        async def ask() -> None:
            try:
                for place, question in waiting:
                    answers[place] = await question()
            except Exception as error:
                failures.append(error)
                group.cancel_scope.cancel()

        for _ in range(min(at_once, len(questions))):
            group.start_soon(ask)
    if failures:
        raise failures[0]
    return [answers[place] for place in range(len(questions))]
