"""`msr-async lock ...`: who holds the migration lock, and how to end a run that hangs."""

from __future__ import annotations

import sys

from cyclopts import App

from . import documents
from .asking import agree, can_ask
from .opening import Injected, opened
from .options import DEFAULTS, Shared, Switch, UsageError
from .running import Result

lock = App(name="lock", help="See who holds the migration lock, and end a holder that hangs.")


@lock.command
async def status(*, shared: Shared = DEFAULTS, this: Injected) -> Result:
    """Show who holds the migration lock. Does not take it."""
    from .showing import show_lock

    async with opened(shared, shared.config(), this) as (executor, name):
        holder = await executor.lock_status()
    return Result(document=documents.of_lock(holder, name), show=lambda out: show_lock(out, holder, name))


@lock.command
async def release(*, yes: Switch = False, shared: Shared = DEFAULTS, this: Injected) -> Result:
    """End the session that holds the migration lock, with the work it is at: what it has not committed is undone.

    A runner that died frees the lock by itself; this is for one that hangs. If its program still lives, its run fails
    and puts the database back as its settings say. Asks first.

    Parameters
    ----------
    yes:
        Do not ask. Needed where there is no terminal.
    """
    from .showing import show_released

    async with opened(shared, shared.config(), this) as (executor, name):
        holder = await executor.lock_status()
    ended = None
    if holder is not None:
        held = f"The migration lock of {name} is held by {holder}"
        if not yes and not can_ask():
            raise UsageError(
                f"{held}, and there is no terminal to ask on.",
                hint="Pass --yes to end that session; what it has not committed is undone.",
            )
        if not yes or not shared.quiet:
            print(f"{held}.", file=sys.stderr, flush=True)
        if not yes:
            await agree(
                "End that session? What it has not committed is undone.", otherwise="Nothing was ended: not confirmed."
            )
        async with opened(shared, shared.config(), this) as (executor, _):
            ended = await executor.release_lock()
    return Result(document=documents.of_release(ended, name), show=lambda out: show_released(out, ended, name))
