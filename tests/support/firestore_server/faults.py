"""Faults on command: what a server does now and then, when a test wants it."""

from __future__ import annotations

import random
import threading
from dataclasses import dataclass, field

import grpc


@dataclass
class Rule:
    """One fault. It is used up after `times` calls."""

    method: str
    code: grpc.StatusCode = grpc.StatusCode.UNAVAILABLE
    words: str = "on command"
    times: float = 1
    skip: int = 0
    """Calls that pass before it begins."""
    after: bool = False
    """The work is done, and only the answer is lost."""
    cut: int | None = None
    """Messages of a stream that still come."""
    delay: float = 0.0
    held: threading.Event | None = None
    probability: float = 1.0
    reached: threading.Event = field(default_factory=threading.Event)

    def release(self) -> None:
        """Let the call that it holds go on."""
        if self.held is not None:
            self.held.set()


class Faults:
    """What is to go wrong; asked for each call. Random ones are drawn with a seed.

    A method is named as on the wire (`Commit`, `RunQuery`); `*` is every one. The first rule that fits a call is used.
    """

    def __init__(self, seed: int = 1) -> None:
        self._rules: list[Rule] = []
        self._random = random.Random(seed)
        self.writes: tuple[float, tuple[grpc.StatusCode, ...]] | None = None
        """With which probability a single write of a `BatchWrite` fails, and how."""
        self.documents_a_second: float | None = None
        """Of one stream."""

    def fail(
        self,
        method: str,
        code: grpc.StatusCode = grpc.StatusCode.UNAVAILABLE,
        words: str = "on command",
        *,
        times: float = 1,
        skip: int = 0,
        after: bool = False,
        probability: float = 1.0,
    ) -> Rule:
        """Let calls fail, before they do anything or (`after`) when all is done."""
        return self._add(
            Rule(method=method, code=code, words=words, times=times, skip=skip, after=after, probability=probability)
        )

    def cut(self, method: str, messages: int, *, times: float = 1, skip: int = 0) -> Rule:
        """Let streams end with UNAVAILABLE after so many messages."""
        return self._add(Rule(method=method, cut=messages, times=times, skip=skip))

    def delay(self, method: str, seconds: float, *, times: float = float("inf")) -> Rule:
        """Let calls take so much longer."""
        return self._add(Rule(method=method, delay=seconds, times=times))

    def hold(self, method: str, *, skip: int = 0) -> Rule:
        """Let a call wait until `release()` of what this returns; its `reached` is set when the call has come."""
        return self._add(Rule(method=method, held=threading.Event(), skip=skip))

    def clear(self) -> None:
        """Forget all of it, and let go what is held."""
        for rule in self._rules:
            rule.release()
        self._rules.clear()
        self.writes = self.documents_a_second = None

    def _add(self, rule: Rule) -> Rule:
        self._rules.append(rule)
        return rule

    def next(self, method: str) -> Rule | None:
        """What is to happen to this call."""
        for rule in self._rules:
            if rule.method not in (method, "*") or rule.times <= 0:
                continue
            if rule.skip:
                rule.skip -= 1
                continue
            if rule.probability < 1 and self._random.random() >= rule.probability:
                continue
            rule.times -= 1
            return rule
        return None

    def write_status(self) -> grpc.StatusCode | None:
        """What is to happen to a single write."""
        if self.writes is None or self._random.random() >= self.writes[0]:
            return None
        return self._random.choice(self.writes[1])
