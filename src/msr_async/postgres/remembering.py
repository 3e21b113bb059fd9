"""What was found out about a text, remembered while that costs little. Pure."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import TypeVar

T = TypeVar("T")
_LONGEST = (1 << 14, 1 << 18, 1 << 22)
_CHARACTERS = 1 << 24
"""How many are remembered of the texts up to each of these lengths, together: of many short ones, or of a few long."""


def remembering(find_out: Callable[[str], T]) -> Callable[[str], T]:
    """The same function with a memory; of a text that is longer than all of these it is asked anew."""
    memories = [(longest, lru_cache(maxsize=_CHARACTERS // longest)(find_out)) for longest in _LONGEST]

    def answer(text: str) -> T:
        for longest, remembered in memories:
            if len(text) <= longest:
                return remembered(text)
        return find_out(text)

    return answer
