"""Real PostgreSQL servers for the tests: one of each major version a session, started when first asked for."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import pytest

from msr_async.errors import ToolMissing
from msr_async.testing.embedded import EmbeddedPostgres, find_postgres

MAJORS = (15, 16, 18)
"""15 is Debian's and has the contrib extensions, ICU and XML; 16 and 18 come from the wheel and have none of them."""

FULL_BUILDS = (15,)

only_newest = pytest.mark.parametrize("postgres", [18], indirect=True)
"""For a test that gains nothing from being run on every version."""

# A test's database is thrown away, so nothing of it has to survive a power cut.
SETTINGS: dict[str, str | int] = {
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "wal_level": "logical",  # publications warn otherwise
}


@dataclass(frozen=True, kw_only=True)
class Database:
    server: EmbeddedPostgres
    name: str
    dsn: str

    @property
    def major(self) -> int:
        return self.server.version

    def sql(self, text: str) -> str:
        """Run SQL by psql and return what it printed, columns apart by `|`."""
        return self.server.run("psql", *QUIET_PSQL, self.dsn, stdin=text).rstrip("\n")


QUIET_PSQL = ("-XqAt", "-v", "ON_ERROR_STOP=1", "-f", "-", "-d")


class Servers:
    """Starts each server once and remembers why one is missing."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._running: dict[int, EmbeddedPostgres] = {}

    def get(self, major: int) -> EmbeddedPostgres:
        """The server of this version; skips the test without one, and fails it when MSR_REQUIRE_SERVICES=1."""
        if major not in self._running:
            try:
                found = find_postgres(major)
            except ToolMissing as error:
                pytest.fail(str(error))
            if found is None:
                reason = f"no PostgreSQL {major} here: see 'Servers for the tests' in CONTRIBUTING.md"
                if os.environ.get("MSR_REQUIRE_SERVICES") == "1":
                    pytest.fail(reason)
                pytest.skip(reason)
            server = EmbeddedPostgres(major, bin_dir=found, options=SETTINGS)
            server.start()
            self._stack.callback(server.stop)
            self._running[major] = server
        return self._running[major]

    def stop(self) -> None:
        self._stack.close()


@contextmanager
def fresh_database(server: EmbeddedPostgres) -> Iterator[Database]:
    """An empty database with a name of its own, dropped at the end whoever is connected to it."""
    name = f"t_{secrets.token_hex(6)}"
    server.run("createdb", name)
    try:
        yield Database(server=server, name=name, dsn=server.dsn(name))
    finally:
        server.run("dropdb", "--force", "--if-exists", name)
