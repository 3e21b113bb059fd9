"""Faults are shown on one server, over a connection of the runner's own and through PgBouncer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.pgbouncer import Bouncers
from tests.support.processes import Runners
from tests.support.servers import Database


@pytest.fixture
def runners(tmp_path: Path) -> Iterator[Runners]:
    """Starts real processes; whoever is left at the end of the test is killed."""
    started = Runners(folder=tmp_path)
    try:
        yield started
    finally:
        started.end_all()


@pytest.fixture(params=["direct", "pgbouncer"])
def url(request: pytest.FixtureRequest, database: Database) -> str:
    """How the runners reach `database`."""
    if request.param == "direct":
        return database.dsn
    bouncers: Bouncers = request.getfixturevalue("pgbouncer")
    return bouncers(database)
