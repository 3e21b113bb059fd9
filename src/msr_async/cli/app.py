"""The commands. Each makes the library's objects, awaits one call and hands back a result; none prints."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from importlib.metadata import PackageNotFoundError, version
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, CycloptsError, Parameter

from .backups import backup
from .exits import Exit
from .locks import lock
from .migrations import baseline, down, migrate, new, plan, repair, status, validate
from .opening import Injected
from .options import DEFAULTS, Switch, UsageError
from .running import Manners, report, run, unwritten
from .streams import OutputFailed

app = App(
    name="msr-async",
    help="Migrations with a way back: back up, migrate, and put everything back when a migration fails.",
    help_format="plaintext",  # markdown would import a parser for it
    version=lambda: _version(),
    help_epilogue="Exit codes: 0 done, 2 usage or validation, 3 migration failed, 4 putting back failed, 5 backup "
    "failed, 6 restore failed, 7 no connection, 8 lock, 9 pending, 10 backup not valid, 11 target refused.",
)
app.command(backup)
app.command(lock)
for _command in (new, plan, migrate, down, status, validate, baseline, repair):
    app.command(_command)


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
    if (wrong := _no_text(bound.arguments)) is not None:
        error = UsageError(f"{wrong!r} is not UTF-8.", hint="Only names of files may be something else.")
        return report(error, code=Exit.VALIDATION, manners=_guess(tokens))
    if not asyncio.iscoroutinefunction(command):  # --help, --version
        try:
            command(*bound.args, **bound.kwargs)
            sys.stdout.flush()
        except OutputFailed as failure:
            return unwritten(failure)
        return Exit.OK
    shared = bound.arguments.get("shared", DEFAULTS)
    debug = bound.arguments.get("debug", shared.debug)
    manners = Manners(format=shared.format, quiet=shared.quiet, debug=debug)
    return run(lambda this: command(*bound.args, **bound.kwargs, this=this), command=" ".join(names), manners=manners)


def _no_text(value: Any) -> str | None:
    """What was given, and is text that nothing can store: its bytes are no UTF-8. Paths are no text."""
    match value:
        case str() if any("\ud800" <= char <= "\udfff" for char in value):
            return value
        case Mapping():
            inner = list(value.values())
        case tuple():
            inner = list(value)
        case _:
            inner = [getattr(value, item.name) for item in fields(value)] if is_dataclass(value) else []
    return next((found for found in map(_no_text, inner) if found is not None), None)


def _version() -> str:
    try:
        return version("msr_async")
    except PackageNotFoundError:
        return "not installed: run from its source"


def _guess(tokens: Sequence[str]) -> Manners:
    """The manners of a command line that could not be understood."""
    wants_json = "--format=json" in tokens or ("--format", "json") in pairwise(tokens)
    return Manners(format="json" if wants_json else "table", debug="--debug" in tokens)
