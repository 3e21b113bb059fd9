"""How does one script run? SQL is the handler's; Python becomes a fresh module, from the very text that was checked."""

from __future__ import annotations

import asyncio
import inspect
import itertools
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, TypeVar

import anyio.to_thread

from ..errors import ScriptFailed, words_of
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
    """Turn what a Python script raises into an error that says where in the script.

    That is anything at all, for nothing that a script raises may end the program around it without a word or a
    recovery: but for what tells that the run itself is being ended.
    """
    task = _task()
    try:
        yield
    except ScriptFailed:
        raise
    except BaseException as error:
        if _ends_the_run(error, task):
            raise
        line = error.lineno if isinstance(error, SyntaxError) else _deepest_line(error.__traceback__, script.path)
        said = words_of(error)
        text = f"{type(error).__name__}: {said}" if said else type(error).__name__
        raise ScriptFailed(text, path=script.path, line=line) from error


def _task() -> asyncio.Task[Any] | None:
    """The task that runs us; None in the thread of an import, and where the loop is gone."""
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None


def _ends_the_run(error: BaseException, task: asyncio.Task[Any] | None) -> bool:
    """Whether somebody cancels the run, or throws it away, and the script only passes that on."""
    if task is None:
        return False
    if isinstance(error, GeneratorExit):
        return _task() is not task
    # Whoever cancels a task, anyio's scopes too, is counted by it. A CancelledError without that is of the script's own
    # making. Of a KeyboardInterrupt asyncio.run makes a cancellation first.
    return isinstance(error, asyncio.CancelledError | KeyboardInterrupt) and task.cancelling() > 0


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
