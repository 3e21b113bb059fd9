"""The commands of the migration engine: look, run, go back, and keep the history right."""

from __future__ import annotations

import sys

from ..config import Config
from ..models import Version
from . import documents
from .asking import agree, can_ask
from .exits import Exit
from .opening import Injected, opened
from .options import DEFAULTS, Shared, Switch, UsageError
from .run_options import (
    DOWN_DEFAULTS,
    LOCK_DEFAULTS,
    MIGRATE_DEFAULTS,
    PLAN_DEFAULTS,
    STATUS_DEFAULTS,
    VALIDATE_DEFAULTS,
    DownOptions,
    LockOptions,
    MigrateOptions,
    PlanOptions,
    StatusOptions,
    Target,
    ValidateOptions,
)
from .running import Result, Run
from .targets import target_of


async def new(
    name: str, /, *, python: Switch = False, no_down: Switch = False, shared: Shared = DEFAULTS, this: Injected
) -> Result:
    """Write the files of a new migration and print their paths. Needs no database.

    Parameters
    ----------
    name:
        What it does, such as add_orders; its version is the time of now.
    python:
        Write it in Python instead of SQL.
    no_down:
        Leave the way back out.
    """
    from .._engine.starting import start
    from .showing import show_paths

    made = await start(shared.migrations, name, "py" if python else "sql", down=not no_down)
    return Result(document=documents.of_new(made), show=lambda out: show_paths(out, made))


async def plan(
    target: Target | None = None,
    /,
    *,
    down: Switch = False,
    options: PlanOptions = PLAN_DEFAULTS,
    shared: Shared = DEFAULTS,
    this: Injected,
) -> Result:
    """Show what would run, in its order, and everything that is wrong. Changes nothing, takes no lock.

    Parameters
    ----------
    target:
        The last version to apply; with --down the version to go back to, 0 for before the first.
    down:
        Show what `down` would undo.
    """
    from .plans import steps_of
    from .showing import show_steps

    version = None if target is None else await target_of(target, shared)
    if down and version is None:
        raise UsageError("--down needs a target.", hint="Name the version to go back to; 0 undoes everything.")
    async with opened(shared, options.config(shared), this) as (executor, name):
        found = await executor.plan(version, direction="down" if down else "up")
        steps = steps_of(found, executor)
    return Result(
        document=documents.of_plan(found, name) | documents.of_steps(steps),
        show=lambda out: show_steps(out, found, steps, name),
    )


async def migrate(
    target: Target | None = None,
    /,
    *,
    dry_run: Switch = False,
    options: MigrateOptions = MIGRATE_DEFAULTS,
    shared: Shared = DEFAULTS,
    this: Injected,
) -> Result:
    """Apply the pending migrations; when one fails, put the database back.

    Parameters
    ----------
    target:
        The last version to apply; all of them when left out.
    dry_run:
        Run everything in one transaction and roll it back. Nothing is backed up.
    """
    from .showing import show_result

    version = None if target is None else await target_of(target, shared)
    async with opened(shared, options.config(shared), this) as (executor, _):
        result = await executor.migrate(version, dry_run=dry_run)
    return Result(document=documents.of_result(result), show=lambda out: show_result(out, result, target=version))


async def down(
    target: Target,
    /,
    *,
    dry_run: Switch = False,
    yes: Switch = False,
    options: DownOptions = DOWN_DEFAULTS,
    shared: Shared = DEFAULTS,
    this: Injected,
) -> Result:
    """Undo what was applied after TARGET, newest first, by the `down` scripts. Asks first.

    Parameters
    ----------
    target:
        The version to go back to, which stays applied; 0 undoes everything.
    dry_run:
        Run everything in one transaction and roll it back. Nothing is backed up, nothing is asked.
    yes:
        Do not ask. Needed where there is no terminal.
    """
    from .showing import show_result

    version = await target_of(target, shared)
    config = options.config(shared)
    if not dry_run and not yes:
        await _agree_to_undo(version, config, shared, this)
    async with opened(shared, config, this) as (executor, _):
        result = await executor.down(version, dry_run=dry_run)
    return Result(document=documents.of_result(result), show=lambda out: show_result(out, result, target=version))


async def _agree_to_undo(target: Version, config: Config, shared: Shared, this: Run) -> None:
    from .plans import steps_of
    from .rendering import console
    from .showing import show_steps

    if not can_ask():
        raise UsageError(
            "Going down can destroy data, and there is no terminal to ask on.",
            hint="Pass --yes to agree, or --dry-run to try it and roll it back.",
        )
    async with opened(shared, config, this) as (executor, name):
        found = await executor.plan(target, direction="down")
        steps = steps_of(found, executor)
    if found.pending and not found.errors:  # otherwise there is nothing to agree to
        show_steps(console(sys.stderr), found, steps, name)
        await agree("Undo them?", otherwise="Nothing was undone: not confirmed.")


async def status(
    *, check: Switch = False, options: StatusOptions = STATUS_DEFAULTS, shared: Shared = DEFAULTS, this: Injected
) -> Result:
    """Show what is applied and what is pending. Changes nothing, takes no lock.

    Parameters
    ----------
    check:
        Exit with 9 when migrations are pending, and with 2 when they could not run as they stand.
    """
    from .showing import show_status

    async with opened(shared, options.config(shared), this) as (executor, name):
        found = await executor.status()
    code = Exit.OK
    if check and (found.errors or found.pending):
        code = Exit.VALIDATION if found.errors else Exit.PENDING
    return Result(document=documents.of_plan(found, name), show=lambda out: show_status(out, found, name), code=code)


async def validate(
    *, options: ValidateOptions = VALIDATE_DEFAULTS, shared: Shared = DEFAULTS, this: Injected
) -> Result:
    """Look at everything that can be looked at without running it; exit with 2 when there are errors.

    The files, the history, what the scripts would do to a running application, and whether the schema was changed by
    hand. Changes nothing, takes no lock.
    """
    from .showing import show_validation

    async with opened(shared, options.config(shared), this) as (executor, name):
        found = await executor.validate()
    return Result(
        document=documents.of_plan(found, name) | {"valid": not found.errors},
        show=lambda out: show_validation(out, found, name),
        code=Exit.VALIDATION if found.errors else Exit.OK,
    )


async def baseline(
    version: Target,
    /,
    *,
    options: LockOptions = LOCK_DEFAULTS,
    shared: Shared = DEFAULTS,
    this: Injected,
) -> Result:
    """Declare that the database has all migrations up to a version already: they are recorded and not run.

    Parameters
    ----------
    version:
        The newest migration that the database has.
    """
    from .showing import show_baseline

    number = await target_of(version, shared)
    async with opened(shared, options.config(shared), this) as (executor, name):
        lines = await executor.baseline(number)
    return Result(document=documents.of_baseline(lines, name), show=lambda out: show_baseline(out, lines, name))


async def repair(
    *, dry_run: Switch = False, options: LockOptions = LOCK_DEFAULTS, shared: Shared = DEFAULTS, this: Injected
) -> Result:
    """Make the history agree with the files: take over checksums of changed ones, forget missing ones. Runs nothing.

    Parameters
    ----------
    dry_run:
        Only say what would be changed.
    """
    from .showing import show_repair

    async with opened(shared, options.config(shared), this) as (executor, name):
        result = await executor.repair(dry_run=dry_run)
    return Result(document=documents.of_repair(result, name), show=lambda out: show_repair(out, result, name))
