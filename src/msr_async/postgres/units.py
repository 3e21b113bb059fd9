"""How a unit of work begins: its transaction and the settings that it runs under. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from ..protocols import WorkOptions

# Through a pooling proxy the session is somebody else's: what our statements rely on is said in each transaction.
_POOLED = (
    "SET LOCAL standard_conforming_strings = on; SET LOCAL DateStyle = 'ISO, MDY'; "
    "SET LOCAL IntervalStyle = 'postgres'; SET LOCAL TimeZone = 'UTC'; "
    "SET LOCAL idle_in_transaction_session_timeout = 0"
)


NOT_WAITED_FOR = "SET LOCAL synchronous_commit = off"
"""Its commit does not wait for the disk."""


def opening(options: WorkOptions, *, pooled: bool, fence: int | None, major: int) -> str:
    """BEGIN and all that a transactional unit says before its work, as one message."""
    level = f" ISOLATION LEVEL {options.isolation.upper()}" if options.isolation else ""
    inside = inner_settings(options, pooled=pooled, fence=fence, major=major)
    return f"BEGIN{level}; {inside}" if inside else f"BEGIN{level}"


def inner_settings(options: WorkOptions, *, pooled: bool, fence: int | None, major: int) -> str:
    """What such a unit says once it has begun; empty when there is nothing to say."""
    said: list[str] = []
    if pooled:
        said.append(_POOLED)
        if major >= 17:
            said.append("SET LOCAL transaction_timeout = 0")
        if options.statement_timeout is None:
            said.append("SET LOCAL statement_timeout = 0")
    said += [f"SET LOCAL {setting}" for setting in _timeouts(options)]
    if not options.durable:
        said.append(NOT_WAITED_FOR)
    if fence is not None:
        # last, so that lock_timeout bounds the wait for the unit of a runner that is gone
        said.append(f"SELECT pg_catalog.pg_advisory_xact_lock({fence})")
    return "; ".join(said)


def outer_settings(options: WorkOptions) -> str:
    """What a unit without a transaction says before its work, to the session."""
    return "; ".join(f"SET {setting}" for setting in _timeouts(options))


def _timeouts(options: WorkOptions) -> Iterator[str]:
    if options.lock_timeout is not None:
        yield f"lock_timeout = {_milliseconds(options.lock_timeout)}"
    if options.statement_timeout is not None:
        yield f"statement_timeout = {_milliseconds(options.statement_timeout)}"


def _milliseconds(seconds: float) -> int:
    """0 is without end, so that a little is never nothing."""
    return max(1, round(seconds * 1000)) if seconds > 0 else 0
