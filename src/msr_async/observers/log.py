"""Events as lines of the standard library's logging, under `msr_async`; silent until an application listens."""

from __future__ import annotations

import logging

from ..events import (
    BatchFinished,
    Drifted,
    Event,
    MigrationErred,
    MigrationRetried,
    MigrationStarted,
    PartProgress,
    RecoveryStarted,
    StatementProgress,
    Step,
    Warned,
)
from .wording import advance, tell

_logger = logging.getLogger("msr_async")
_logger.addHandler(logging.NullHandler())  # or logging's last resort would print warnings to stderr by itself
_LEVELS = {
    MigrationErred: logging.ERROR,
    **dict.fromkeys((Warned, RecoveryStarted, MigrationRetried, Drifted), logging.WARNING),
    **dict.fromkeys((Step, PartProgress, BatchFinished, StatementProgress), logging.DEBUG),
}
"""Where they are not info."""


def log_event(event: Event) -> None:
    """The observer that every executor has: warnings and failures as such, phases as info, steps as debug."""
    level = _LEVELS.get(type(event), logging.INFO)
    if not _logger.isEnabledFor(level):
        return
    told = tell(event)
    if told is not None:
        _logger.log(level, "%s", told.text)
    elif isinstance(event, Step):
        _logger.log(level, "%s: %s", event.action, event.detail)
    elif isinstance(event, MigrationStarted):
        verb = "running" if event.direction == "up" else "undoing"
        _logger.log(level, "%s %s (%d of %d)", verb, event.migration, event.position, event.total)
    elif isinstance(event, BatchFinished | StatementProgress):
        _logger.log(level, "%s", advance(event))
    elif isinstance(event, PartProgress) and event.finished:
        _logger.log(level, "%s: %s done", event.action, event.part)
