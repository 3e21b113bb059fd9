"""Observers hear everything and change nothing."""

from __future__ import annotations

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


def test_an_observer_that_raises_is_logged_and_the_next_one_hears_the_event(caplog: pytest.LogCaptureFixture) -> None:
    heard: list[Event] = []

    def broken(_event: Event) -> None:
        raise ZeroDivisionError

    with caplog.at_level(logging.ERROR, logger="msr_async"):
        Emitter([broken, heard.append])(Warned(message="a"))
    assert len(heard) == 1
    assert "Warned" in caplog.text
    assert "ZeroDivisionError" in caplog.text
