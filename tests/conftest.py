"""Fixtures for all tests. A test that wants every PostgreSQL version takes `database`; `only_newest` narrows it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack

import pytest

from msr_async.testing.embedded import EmbeddedPostgres
from msr_async.testing.emulator import FirestoreEmulator
from tests.support.firestore import GOOGLE, OWN, FirestoreTarget, require_emulator, running_elsewhere, target
from tests.support.firestore_server import FirestoreServer
from tests.support.pgbouncer import Bouncers
from tests.support.servers import FULL_BUILDS, MAJORS, Database, Servers, fresh_database

# squawk is installed with the tests, and has an opinion on every CREATE TABLE: only its own tests ask it
os.environ["MSR_SQUAWK"] = "off"


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    """All servers of the session, started when first asked for: `servers.get(18)`."""
    every = Servers()
    try:
        yield every
    finally:
        every.stop()


@pytest.fixture(scope="session")
def pgbouncer() -> Iterator[Bouncers]:
    """Gives a URL that reaches a database through PgBouncer in transaction pooling: `pgbouncer(database)`."""
    bouncers = Bouncers()
    try:
        yield bouncers
    finally:
        bouncers.stop()


@pytest.fixture(scope="session", params=MAJORS, ids=lambda major: f"pg{major}")
def postgres(request: pytest.FixtureRequest, servers: Servers) -> EmbeddedPostgres:
    """A running server, one major version after the other."""
    return servers.get(request.param)


@pytest.fixture
def make_database(postgres: EmbeddedPostgres) -> Iterator[Callable[[], Database]]:
    """Makes as many empty databases as a test wants, all on one server."""
    with ExitStack() as stack:
        yield lambda: stack.enter_context(fresh_database(postgres))


@pytest.fixture
def database(make_database: Callable[[], Database]) -> Database:
    """An empty database of the test's own."""
    return make_database()


@pytest.fixture
def postgres_full(servers: Servers) -> Iterator[Database]:
    """An empty database on a server with contrib extensions."""
    with fresh_database(servers.get(FULL_BUILDS[0])) as fresh:
        yield fresh


# -- Firestore ---------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
async def one_loop(anyio_backend: str) -> AsyncIterator[None]:
    """Keeps one event loop for all tests from here on: grpc's threads hold on to the first one they meet."""
    yield  # noqa: PT022 - while an asynchronous fixture waits here, its loop is kept


@pytest.fixture(scope="session")
def firestore_emulator() -> Iterator[FirestoreEmulator]:
    """Google's emulator in a process of ours, one a session; its projects are apart from each other."""
    require_emulator()
    emulator = FirestoreEmulator(heap="1g")
    emulator.start()
    try:
        yield emulator
    finally:
        emulator.stop()


@pytest.fixture(scope="session")
def emulator_address(request: pytest.FixtureRequest) -> str:
    """Of Google's emulator: the one that FIRESTORE_EMULATOR_HOST names, or that of `firestore_emulator`."""
    found = running_elsewhere()
    if found is None:
        emulator: FirestoreEmulator = request.getfixturevalue("firestore_emulator")
        found = emulator.address
    return found


@pytest.fixture(scope="session")
def own_firestore() -> Iterator[FirestoreServer]:
    with FirestoreServer() as server:
        yield server


@pytest.fixture
def firestore_server(own_firestore: FirestoreServer, one_loop: None) -> Iterator[FirestoreServer]:
    """The server of our own, without faults and with an empty log."""
    own_firestore.reset()
    yield own_firestore
    own_firestore.reset()


@pytest.fixture(params=[OWN, GOOGLE])
def firestore_target(request: pytest.FixtureRequest, one_loop: None) -> FirestoreTarget:
    """A project of the test's own; the test runs on our server and on Google's emulator."""
    if request.param == OWN:
        server: FirestoreServer = request.getfixturevalue("firestore_server")
        return target(server.address, server)
    return target(request.getfixturevalue("emulator_address"), None)
