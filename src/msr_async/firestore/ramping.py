"""How fast to write to a database that is not warm yet: 500 documents a second, half as many more every five minutes.

Google asks for it ("500/50/5"): the database splits its key ranges as the load grows, and answers slowly until it has.
"""

from __future__ import annotations

from collections.abc import Callable

_RATE = 500.0
_GROWTH = 1.5
_PERIOD = 300.0
_MOST_PERIODS = 40
"""After these it is 5.5 billion a second."""


class Ramp:
    """Says how long to wait before so many documents are written; documents that wait already are counted.

    Args:
        clock: seconds, from any beginning.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._begun: float | None = None
        self._free = 0.0

    def rate(self, moment: float) -> float:
        """Documents a second at that moment of the clock."""
        periods = int((moment - (moment if self._begun is None else self._begun)) // _PERIOD)
        return _RATE * _GROWTH ** min(periods, _MOST_PERIODS)

    def wait(self, documents: int) -> float:
        """Seconds until these may be written; they have their place in the line from now on."""
        now = self._clock()
        if self._begun is None:
            self._begun = now
        start = max(now, self._free)
        self._free = start + documents / self.rate(start)
        return start - now
