"""How many migrations go to the database together? More while they are quick, so that a slow one is seen alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .stepping import Turn

MOST = 32
"""Beyond it there is next to nothing to gain: what a message costs is shared by many already."""
LONGEST = 64 * 1024
"""Characters of script in one group."""
_QUICK, _SLOW = 0.025, 0.05
"""Seconds that a group took: below the first the next one is twice as large, above the second it is one alone."""


class Pace:
    """How large the next group may be. It begins with one."""

    def __init__(self) -> None:
        self.size = 1
        self._alone = False

    def took(self, seconds: float) -> None:
        """A group came to its end."""
        if self._alone or seconds > _SLOW:
            self.size = 1
        elif seconds < _QUICK:
            self.size = min(self.size * 2, MOST)

    def heard(self) -> None:
        """The server spoke while several ran, and whose words those are cannot be told: from here on each is alone."""
        self._alone = True


def group(steps: Sequence[Turn], start: int, size: int, joins: Callable[[Turn], bool]) -> Sequence[Turn]:
    """The turns from `start` on that may go together, at least that one.

    They follow each other, ask for the same settings, and are short.

    Args:
        joins: see `Ground.joins`; asked only where a group is possible.
    """
    first = steps[start].script
    room = LONGEST - len(first.text)
    end = start + 1
    if size > 1 and room >= 0 and joins(steps[start]):
        for turn in steps[end : start + size]:
            if not joins(turn) or turn.script.directives != first.directives:
                break
            room -= len(turn.script.text)
            if room < 0:
                break
            end += 1
    return steps[start:end]
