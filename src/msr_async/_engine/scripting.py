"""How does one script run? SQL is the handler's; Python becomes a fresh module, from the very text that was checked."""

from __future__ import annotations

import inspect
import itertools
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, TypeVar

import anyio.to_thread

from ..errors import ScriptFailed
from ..models import Direction, Migration, Script
from ..protocols import DatabaseMigrationHandler, MigrationContext

ConnT = TypeVar("ConnT")
Work = Callable[[ConnT], Awaitable[None]]

_serial = itertools.count(1)


@asynccontextmanager
async def runnable(
    handler: DatabaseMigrationHandler[ConnT],
    migration: Migration,
    script: Script,
    function: Direction,
    *,
    resume: str | None = None,
) -> AsyncIterator[Work[ConnT]]:
    """The piece of work that runs a script on a connection, for as long as the block lasts.

    Args:
        function: which one of a Python file.
        resume: see `DatabaseMigrationHandler.execute`.

    Raises:
        ScriptFailed: when a Python file fails while it is imported.
    """
    if script.language != "py":

        async def run_native(conn: ConnT) -> None:
            await handler.execute(conn, script, resume=resume)

        yield run_native
        return
    async with imported(migration, script) as module:
        called = getattr(module, function)
        context = context_of(handler, migration)

        async def run_python(conn: ConnT) -> None:
            with placed(script):
                await called(conn, context)

        yield run_python


def context_of(handler: DatabaseMigrationHandler[ConnT], migration: Migration) -> MigrationContext[ConnT]:
    """The second argument of a Python migration's functions."""
    return MigrationContext(version=migration.version, name=migration.name, handler=handler)


@asynccontextmanager
async def imported(migration: Migration, script: Script) -> AsyncIterator[ModuleType]:
    """A fresh module, under a name that no other run uses; after the block it is gone from `sys.modules`."""
    name = f"_msr_async_migration_{migration.id}_{next(_serial)}"
    try:
        # In a worker thread: a module may import half of the world.
        yield await anyio.to_thread.run_sync(_import, script, name)
    finally:
        sys.modules.pop(name, None)


def _import(script: Script, name: str) -> ModuleType:
    module = ModuleType(name)
    module.__file__ = str(script.path)
    sys.modules[name] = module  # dataclasses and pickles look their module up
    with placed(script):
        exec(compile(script.text, str(script.path), "exec", dont_inherit=True), module.__dict__)
    return module


@contextmanager
def placed(script: Script) -> Iterator[None]:
    """Turn what a Python script raises into an error that says where in the script."""
    try:
        yield
    except ScriptFailed:
        raise
    except (Exception, SystemExit) as error:
        line = error.lineno if isinstance(error, SyntaxError) else _deepest_line(error.__traceback__, script.path)
        text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        raise ScriptFailed(text, path=script.path, line=line) from error


def line_of(function: Callable[..., Any]) -> int | None:
    """Where a function of a script begins, decorators included."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    return code.co_firstlineno if code is not None else None


def _deepest_line(traceback: TracebackType | None, path: Path) -> int | None:
    line: int | None = None
    while traceback is not None:
        if traceback.tb_frame.f_code.co_filename == str(path):
            line = traceback.tb_lineno
        traceback = traceback.tb_next
    return line
