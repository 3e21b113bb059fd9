"""Observers hear everything and change nothing."""

from __future__ import annotations

import asyncio
import logging

import pytest

from msr_async._engine.emitting import Emitter
from msr_async.events import Event, Warned


def test_every_observer_hears_every_event_in_order() -> None:
    first: list[Event] = []
    second: list[Event] = []
    emit = Emitter([first.append, second.append])
    events = [Warned(message="a"), Warned(message="b")]
    for event in events:
        emit(event)
    assert first == second == events


@pytest.mark.parametrize("error", [ZeroDivisionError, SystemExit, asyncio.CancelledError, GeneratorExit])
def test_an_observer_that_raises_is_logged_and_the_next_one_hears_the_event(
    caplog: pytest.LogCaptureFixture, error: type[BaseException]
) -> None:
    heard: list[Event] = []

    def broken(_event: Event) -> None:
        raise error

    with caplog.at_level(logging.ERROR, logger="msr_async"):
        Emitter([broken, heard.append])(Warned(message="a"))
    assert len(heard) == 1
    assert "Warned" in caplog.text
    assert error.__name__ in caplog.text


def test_ctrl_c_while_an_observer_works_is_not_lost() -> None:
    def interrupted(_event: Event) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Emitter([interrupted])(Warned(message="a"))
