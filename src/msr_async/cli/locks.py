"""`msr-async lock ...`: who holds the migration lock, and how to end a run that hangs."""

from __future__ import annotations

import sys

from cyclopts import App

from . import documents
from .asking import agree, can_ask
from .opening import Injected, opened
from .options import DEFAULTS, Shared, Switch, UsageError
from .running import Result, Run

lock = App(name="lock", help="See who holds the migration lock, and end a holder that hangs.")


@lock.command
async def status(*, shared: Shared = DEFAULTS, this: Injected) -> Result:
    """Show who holds the migration lock. Does not take it."""
    from .showing import show_lock

    async with opened(shared, shared.config(), this) as (executor, name):
        holder = await executor.lock_status()
    return Result(document=documents.of_lock(holder, name), show=lambda out: show_lock(out, holder, name))


@lock.command
async def release(
    *, restore_mark: Switch = False, yes: Switch = False, shared: Shared = DEFAULTS, this: Injected
) -> Result:
    """End the session that holds the migration lock, with the work it is at: what it has not committed is undone.

    A runner that died frees the lock by itself; this is for one that hangs. If its program still lives, its run fails
    and puts the database back as its settings say. Asks first.

    Parameters
    ----------
    restore_mark:
        Give up a restore of Firestore that has not come to its end, instead: its mark is taken away, and the database
        stays as it is, partly restored. Not while the restore runs.
    yes:
        Do not ask. Needed where there is no terminal.
    """
    from .showing import show_released

    if restore_mark:
        return await _give_up(shared, this, yes=yes)
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
                "End that session? What it has not committed is undone, and its run fails.",
                otherwise="Nothing was ended: not confirmed.",
            )
        async with opened(shared, shared.config(), this) as (executor, _):
            ended = await executor.release_lock()
    return Result(document=documents.of_release(ended, name), show=lambda out: show_released(out, ended, name))


async def _give_up(shared: Shared, this: Run, *, yes: bool) -> Result:
    from .showing import show_given_up

    async with opened(shared, shared.config(), this) as (executor, name):
        left = await executor.unfinished_restore()
    if left is not None:
        there = f"{name} is in the middle of {left}"
        if not yes and not can_ask():
            raise UsageError(
                f"{there}, and there is no terminal to ask on.",
                hint="Pass --yes to give it up; the database stays as it is, partly restored.",
            )
        if not yes or not shared.quiet:
            print(f"{there}.", file=sys.stderr, flush=True)
        if not yes:
            await agree(
                "Give it up? The database stays as it is, partly restored, and is used like that.",
                otherwise="The mark stays: not confirmed.",
            )
        async with opened(shared, shared.config(), this) as (executor, _):
            left = await executor.give_up_restore(left.backup)
    return Result(
        document=documents.of_release(None, name, given_up=left), show=lambda out: show_given_up(out, left, name)
    )
