"""Plain lines for pipes, files and continuous integration: no colours, no control characters, few of them."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from typing import TextIO

from ..events import (
    BatchFinished,
    Event,
    LockWaiting,
    MigrationStarted,
    PartProgress,
    StatementProgress,
    Step,
    TransferStarted,
)
from .wording import advance, count, part_label, printable, rate, seconds, size, tell


class LinesObserver:
    """Writes a line per phase, and while data moves one line every `every` seconds.

    Args:
        stream: where to; standard error if not given.
        indent: columns left free before every line.
        steps: False leaves out the phases without rows: schema, indexes, checks.
    """

    def __init__(
        self,
        stream: TextIO | None = None,
        *,
        every: float = 5.0,
        indent: int = 0,
        steps: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._every = every
        self._indent = " " * indent
        self._clock = clock
        self._steps = _STEPS if steps else -1
        self._begun = self._spoke = 0.0
        self._waited = -math.inf
        self._expected = self._moved = self._parts = self._finished = 0

    def __call__(self, event: Event) -> None:
        match event:
            case LockWaiting():
                if self._clock() - self._waited < self._every:
                    return
                self._waited = self._clock()
            case TransferStarted():
                self._begun = self._spoke = self._clock()
                self._expected, self._parts = event.raw_bytes, len(event.parts)
                self._moved = self._finished = 0
                about = "about " if event.action == "backup" else ""
                pieces = count(self._parts, "part")
                self._write(f"{event.action} {event.path.name}: {pieces}, {about}{size(event.raw_bytes)}")
            case PartProgress():
                self._moved += event.raw_bytes
                self._finished += event.finished
                if self._clock() - self._spoke >= self._every:
                    self._spoke = self._clock()
                    self._write(self._progress(event))
            case Step() if self._steps > 0 or (self._steps == 0 and self._clock() - self._spoke >= 1):
                # Ten thousand indexes are ten thousand steps: after the first few, only what comes after a pause.
                self._steps -= self._steps > 0
                self._spoke = self._clock()
                self._write(f"{event.action}: {event.detail}")
            case BatchFinished() | StatementProgress() if self._clock() - self._spoke >= self._every:
                self._spoke = self._clock()
                self._write(advance(event))
            case MigrationStarted():
                self._spoke = self._clock()
                verb = "running" if event.direction == "up" else "undoing"
                self._write(f"{verb} {event.migration} ({event.position} of {event.total})")
        told = tell(event)
        if told is not None:
            self._write(f"{_PREFIX[told.mood]}{told.text}")

    def _progress(self, event: PartProgress) -> str:
        elapsed = self._clock() - self._begun
        expected = max(self._expected, self._moved)
        share = self._moved / expected if expected else 0.0
        left = f", {seconds(elapsed / share - elapsed)} left" if 0 < share < 1 else ""
        parts = f"{self._finished} of {count(self._parts, 'part')} done"
        amount = f"{size(self._moved)} of {size(expected)} ({share:.0%}), {rate(self._moved, elapsed)}{left}"
        return f"{event.action}: {amount}; {parts}, now {part_label(event.part)}"

    def _write(self, text: str) -> None:
        self._stream.write(f"{self._indent}{printable(text)}\n")
        self._stream.flush()


_STEPS = 20
_PREFIX = {"done": "", "plain": "", "back": "", "failed": "failed: ", "warning": "warning: "}
