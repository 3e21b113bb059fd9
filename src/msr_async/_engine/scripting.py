"""How does one script run? SQL is the handler's; Python becomes a fresh module, from the very text that was checked."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, TracebackType
from typing import TypeVar

import anyio.to_thread

from ..errors import ScriptFailed
from ..events import Direction
from ..models import Migration, Script
from ..protocols import DatabaseMigrationHandler, MigrationContext

ConnT = TypeVar("ConnT")
Work = Callable[[ConnT], Awaitable[None]]

_serial = itertools.count(1)


@contextmanager
def module_name(migration: Migration) -> Iterator[str]:
    """A name that no other run uses; what stands under it in `sys.modules` is gone after the block."""
    name = f"_msr_async_migration_{migration.version}_{next(_serial)}"
    try:
        yield name
    finally:
        sys.modules.pop(name, None)


async def prepare(
    handler: DatabaseMigrationHandler[ConnT], migration: Migration, direction: Direction, name: str
) -> Work[ConnT]:
    """Make the piece of work that runs one direction of a migration on a connection; it may be run more than once.

    Args:
        name: what a Python file's module is called.

    Raises:
        ScriptFailed: when a Python file fails while it is imported.
    """
    script = migration.up if direction == "up" else migration.down
    if script is None:
        raise ScriptFailed(f"{migration} has no down.", path=migration.up.path, hint="Write one, or use a backup.")
    if script.language != "py":

        async def run_native(conn: ConnT) -> None:
            await handler.execute(conn, script)

        return run_native

    # Imported in a worker thread: a module may import half of the world.
    module = await anyio.to_thread.run_sync(_import, script, name)
    function = getattr(module, direction)
    context = MigrationContext(version=migration.version, name=migration.name, handler=handler)

    async def run_python(conn: ConnT) -> None:
        with _placed(script):
            await function(conn, context)

    return run_python


def _import(script: Script, name: str) -> ModuleType:
    module = ModuleType(name)
    module.__file__ = str(script.path)
    sys.modules[name] = module  # dataclasses and pickles look their module up
    with _placed(script):
        exec(compile(script.text, str(script.path), "exec", dont_inherit=True), module.__dict__)
    return module


@contextmanager
def _placed(script: Script) -> Iterator[None]:
    """Turn what a Python script raises into an error that says where in the script."""
    try:
        yield
    except ScriptFailed:
        raise
    except (Exception, SystemExit) as error:
        line = error.lineno if isinstance(error, SyntaxError) else _deepest_line(error.__traceback__, script.path)
        text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        raise ScriptFailed(text, path=script.path, line=line) from error


def _deepest_line(traceback: TracebackType | None, path: Path) -> int | None:
    line: int | None = None
    while traceback is not None:
        if traceback.tb_frame.f_code.co_filename == str(path):
            line = traceback.tb_lineno
        traceback = traceback.tb_next
    return line
