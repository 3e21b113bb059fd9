"""How facts reach observers: in order, at once, and without any power over what happens next."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from ..events import Event, Observer

_log = logging.getLogger("msr_async")


class Emitter:
    """Hands each event to every observer. One that raises is logged; the others hear the event all the same."""

    def __init__(self, observers: Sequence[Observer] = ()) -> None:
        self._observers = tuple(observers)

    def __repr__(self) -> str:
        return f"<Emitter to {len(self._observers)} observers>"

    def __call__(self, event: Event) -> None:
        for observer in self._observers:
            try:
                observer(event)
            except KeyboardInterrupt:
                raise
            except BaseException:
                _log.exception("The observer %r failed on %s; the run goes on.", observer, type(event).__name__)
