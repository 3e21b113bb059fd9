"""How fast a restore begins."""

from __future__ import annotations

import pytest

from msr_async.firestore.ramping import Ramp


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def written_until(ramp: Ramp, clock: Clock, end: float, documents: int = 500) -> int:
    """How many documents one writer gets away before that moment of the clock."""
    written = 0
    while True:
        clock.now += ramp.wait(documents)
        if clock.now >= end:
            return written
        written += documents


def test_the_first_batch_goes_at_once_and_the_next_a_second_later() -> None:
    ramp = Ramp(Clock())
    assert [ramp.wait(500), ramp.wait(500), ramp.wait(250), ramp.wait(500)] == [0.0, 1.0, 2.0, 2.5]


def test_who_comes_late_does_not_wait() -> None:
    clock = Clock()
    ramp = Ramp(clock)
    ramp.wait(500)
    clock.now += 0.75
    assert ramp.wait(500) == 0.25
    clock.now += 60
    assert ramp.wait(500) == 0.0


def test_a_pause_is_not_made_up_for() -> None:
    clock = Clock()
    ramp = Ramp(clock)
    ramp.wait(500)
    clock.now += 60
    assert [ramp.wait(500) for _ in range(3)] == [0.0, 1.0, 2.0]


def test_half_as_fast_again_every_five_minutes() -> None:
    clock = Clock()
    ramp = Ramp(clock)
    in_each = []
    for period in range(4):
        in_each.append(written_until(ramp, clock, 1000.0 + 300 * (period + 1)))
    assert in_each == pytest.approx([150_000, 225_000, 337_500, 506_250], rel=0.01)


def test_the_rate_has_an_end_after_a_day() -> None:
    clock = Clock()
    ramp = Ramp(clock)
    ramp.wait(1)
    clock.now += 86_400
    assert ramp.rate(clock.now) == ramp.rate(clock.now + 1e9) > 1e9
