"""The commands. Each makes the library's objects, awaits one call and hands back a result; none prints."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from itertools import pairwise
from pathlib import Path
from typing import Annotated

from cyclopts import App, CycloptsError, Parameter

from ..config import BackupMode, RollbackStrategy
from ..errors import ConfigError
from . import documents
from .backups import backup
from .exits import Exit
from .opening import Injected, opened
from .options import DEFAULTS, Shared, Switch, Tags, UsageError, locate, parse_tags
from .running import Manners, Result, let_go, report, run

app = App(
    name="msr-async",
    help="Migrations with a way back: back up, migrate, and put everything back when a migration fails.",
    help_format="plaintext",  # markdown would import a parser for it
    version=lambda: _version(),
    help_epilogue="Exit codes: 0 done, 2 usage or validation, 3 migration failed, 4 putting back failed, 5 backup "
    "failed, 6 restore failed, 7 no connection, 8 lock, 9 pending, 10 backup not valid, 11 target refused.",
)
app.command(backup)


@app.command
async def migrate(
    *,
    strategy: RollbackStrategy = RollbackStrategy.BACKUP,
    mode: BackupMode | None = None,
    backup: Annotated[Path | None, Parameter(metavar="PATH")] = None,
    keep_backup: Switch = False,
    lock_timeout: float = 300.0,
    jobs: int = 4,
    tag: Tags = (),
    shared: Shared = DEFAULTS,
    this: Injected,
) -> Result:
    """Apply the pending migrations; when one fails, put the database back.

    Parameters
    ----------
    strategy:
        What puts things back: the backup, the `down` scripts, both in turn, or nothing.
    mode:
        What the run does with backups. Default: full, or restore-only when --backup is given.
    backup:
        An existing backup to go back to, instead of making one.
    keep_backup:
        Keep the run's own backup when the run succeeded.
    lock_timeout:
        Seconds to wait while another run holds the migration lock.
    jobs:
        How many parts are dumped at once.
    tag:
        Kept in the backup, such as release=42. May be given several times.
    """
    from .rendering import show_result

    config = shared.config()
    config.rollback_strategy = strategy
    config.backup_mode = mode or (BackupMode.RESTORE_ONLY if backup else BackupMode.FULL)
    if backup and config.backup_mode is not BackupMode.RESTORE_ONLY:
        raise ConfigError(
            f"--backup is not used with --mode {config.backup_mode}.", hint="Leave --mode out, or give restore_only."
        )
    config.backup.existing_backup_path = locate(backup, shared)
    config.backup.delete_backup = not keep_backup
    config.lock_timeout = lock_timeout
    config.backup.concurrency = jobs
    config.backup.tags = parse_tags(tag)
    async with opened(shared, config, this) as (executor, _):
        result = await executor.migrate()
    return Result(document=documents.of_result(result), show=lambda out: show_result(out, result))


@app.command
async def status(*, check: Switch = False, shared: Shared = DEFAULTS, this: Injected) -> Result:
    """Show what is applied and what is pending. Changes nothing, takes no lock.

    Parameters
    ----------
    check:
        Exit with 9 when migrations are pending, and with 2 when they could not run as they stand.
    """
    from .rendering import show_plan

    async with opened(shared, shared.config(), this) as (executor, name):
        plan = await executor.status()
    code = Exit.OK
    if check and (plan.errors or plan.pending):
        code = Exit.VALIDATION if plan.errors else Exit.PENDING
    return Result(document=documents.of_plan(plan, name), show=lambda out: show_plan(out, plan, name), code=code)


@app.command
async def demo(
    *,
    rows: int = 200_000,
    keep: Annotated[Path | None, Parameter(metavar="DIR")] = None,
    debug: Switch = False,
    this: Injected,
) -> None:
    """See it work: a real PostgreSQL, a migration that destroys data, and everything back.

    Parameters
    ----------
    rows:
        How many orders the shop has.
    keep:
        Put the backup and the migrations into this folder and leave them there.
    debug:
        Show tracebacks of errors.
    """
    from .demo import show

    await show(rows=rows, keep=keep, hear=this.remember)


def main(tokens: Sequence[str]) -> int:
    """Run the command that `tokens` ask for, and return its exit code."""
    try:
        names, _, _ = app.parse_commands(tokens)
        command, bound, _ = app.parse_args(tokens, print_error=False, exit_on_error=False)
    except CycloptsError as exc:
        asked = " ".join(("msr-async", *exc.command_chain)) if exc.command_chain else "msr-async"
        error = UsageError(str(exc), hint=f"See {asked} --help.")
        return report(error, code=Exit.VALIDATION, manners=_guess(tokens))
    if not asyncio.iscoroutinefunction(command):  # --help, --version
        try:
            command(*bound.args, **bound.kwargs)
            sys.stdout.flush()
        except BrokenPipeError:
            return let_go()
        return Exit.OK
    shared = bound.arguments.get("shared", DEFAULTS)
    debug = bound.arguments.get("debug", shared.debug)
    manners = Manners(format=shared.format, quiet=shared.quiet, debug=debug)
    return run(lambda this: command(*bound.args, **bound.kwargs, this=this), command=" ".join(names), manners=manners)


def _version() -> str:
    try:
        return version("msr_async")
    except PackageNotFoundError:
        return "not installed: run from its source"


def _guess(tokens: Sequence[str]) -> Manners:
    """The manners of a command line that could not be understood."""
    wants_json = "--format=json" in tokens or ("--format", "json") in pairwise(tokens)
    return Manners(format="json" if wants_json else "table", debug="--debug" in tokens)
