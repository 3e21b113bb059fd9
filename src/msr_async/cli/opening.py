"""Opens what a command works with: the database that a URL names, and the executor over it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

from cyclopts import Parameter

from ..config import Config
from ..errors import ConfigError
from .options import Shared
from .running import Run

if TYPE_CHECKING:
    from ..executor import MigrationScriptExecutor
    from ..protocols import DatabaseMigrationHandler

Injected: TypeAlias = Annotated[Run, Parameter(parse=False)]
"""Handed in by `running`, not by the person."""


@asynccontextmanager
async def opened(shared: Shared, config: Config, this: Run) -> AsyncIterator[tuple[MigrationScriptExecutor[Any], str]]:
    """The executor over the open database, and the database's name for messages."""
    from ..executor import MigrationScriptExecutor

    # The bars are outermost: they must still stand when closing the connections takes its time.
    with this.watching() as observers:
        async with handler_for(shared.url, environment=shared.environment) as handler:
            yield MigrationScriptExecutor(handler, config, observers=observers), handler.name


def handler_for(url: str, *, environment: str | None) -> DatabaseMigrationHandler[Any]:
    """The handler of the database that a URL names, not opened yet."""
    scheme = url.partition("://")[0] if "://" in url else ""
    if scheme not in ("postgresql", "postgres"):
        # The URL itself is not repeated: it may hold a password in a place we cannot guess.
        raise ConfigError(
            f"The database URL starts with {scheme}://, which is not known."
            if scheme
            else "The database URL has no scheme.",
            hint="Write it as postgresql://user:password@host:port/name.",
        )
    from ..postgres import PostgresHandler

    return PostgresHandler(url, environment=environment)
