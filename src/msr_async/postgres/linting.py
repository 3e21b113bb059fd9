"""Which statements of the scripts hurt an application that is running?

The rules are pure (`judging`, `advising`); what they must know of the database is read before, in one query (`facts`).
All of that is loaded where a script needs it: most only create and insert.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from ..models import Issue, Script
from ..shielding import in_thread
from . import squawking
from .driver import Connection
from .translating import translating

if TYPE_CHECKING:
    from .steps import Step


async def review(connection: Connection, scripts: Sequence[Script]) -> tuple[Issue, ...]:
    """Warnings about scripts in the order in which they would run. Reads the catalogue once, and only if it must."""
    written = [script for script in scripts if script.language == "sql"]
    own = await _judged(connection, written) if any(_of_interest(script) for script in written) else {}
    others = await squawking.squawk(written, server_major=connection.get_server_version().major)
    return tuple(_together(written, own, others))


async def _judged(connection: Connection, scripts: Sequence[Script]) -> Mapping[int, Sequence[Issue]]:
    """Our own warnings, by a script's place."""
    from . import judging
    from .facts import Facts, gather
    from .reading import read

    def read_all() -> dict[int, tuple[Step, ...]]:
        return {index: read(script.text) for index, script in enumerate(scripts) if _of_interest(script)}

    # in a worker thread: a script may be long, and whoever holds the migration lock must not stand still
    steps = await in_thread(read_all)
    changes = [step for found in steps.values() for step in found]
    facts = Facts()
    if judging.needs_facts(changes):
        with translating("Looking at the tables that the scripts change", connection):
            facts = await gather(connection, judging.names(steps.values()), judging.calls(changes))
    return {index: tuple(judging.judge(scripts[index], found, facts)) for index, found in steps.items()}


def _of_interest(script: Script) -> bool:
    """A quick look, for most scripts only create and insert."""
    text = script.text.upper()
    return "ALTER" in text or "DROP" in text or "INDEX" in text


def _together(
    scripts: Sequence[Script], own: Mapping[int, Sequence[Issue]], others: squawking.Findings
) -> Iterator[Issue]:
    """Script by script and line by line; what squawk says of a line that has a warning of ours is left out."""
    for index, _ in enumerate(scripts):
        lines = {issue.line for issue in own.get(index, ())}
        more = [issue for issue in others.by_script.get(index, ()) if issue.line not in lines]
        yield from sorted([*own.get(index, ()), *more], key=lambda issue: issue.line or 0)
    if others.failure and scripts:
        yield Issue(code="squawk", severity="warning", message=others.failure)
