"""Opens what a command works with: the database that a URL names, and the executor over it."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, redirect_stdout
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

from cyclopts import Parameter

from ..config import Config
from ..errors import ConfigError
from .addressing import Address
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

    # Migrations print, and their libraries do; standard output is for the result. The bars come next: they must still
    # stand when closing the connections takes its time.
    with redirect_stdout(sys.stderr), this.watching() as observers:
        async with handler_for(shared.address, environment=shared.environment) as handler:
            yield MigrationScriptExecutor(handler, config, observers=observers), handler.name


def handler_for(address: Address, *, environment: str | None) -> DatabaseMigrationHandler[Any]:
    """The handler of the database that is meant, not opened yet."""
    url = address.url
    scheme = "firestore" if url is None else url.partition("://")[0] if "://" in url else ""
    match scheme:
        case "postgresql" | "postgres":
            from ..postgres import PostgresHandler

            return PostgresHandler(url or "", environment=environment)
        case "firestore":
            return _firestore(address, environment)
        case _:
            # The URL itself is not repeated: it may hold a password in a place we cannot guess.
            raise ConfigError(
                f"The database URL starts with {scheme}://, which is not known."
                if scheme
                else "The database URL has no scheme.",
                hint="Write it as postgresql://user:password@host:port/name or firestore://PROJECT/DATABASE.",
            )


def _firestore(address: Address, environment: str | None) -> DatabaseMigrationHandler[Any]:
    from ..firestore.handler import FirestoreHandler, names_its_server

    given = {"credentials": address.credentials, "emulator": address.emulator}
    settings: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if address.url is None:
        return FirestoreHandler(address.project, address.database or "(default)", environment=environment, **settings)
    if names_its_server(address.url):  # beside a URL the emulator is the variable's, and that is further away
        settings.pop("emulator", None)
    return FirestoreHandler.from_url(address.url, environment=environment, **settings)
