"""The two Firestore databases that tests run against: Google's emulator, and the server of our own."""

from __future__ import annotations

import os
import secrets
import urllib.request
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import pytest
from google.cloud.firestore import AsyncClient
from google.cloud.firestore_v1.types import document as documents

from msr_async.errors import ToolMissing
from msr_async.firestore import wire
from msr_async.firestore.clients import Clients
from msr_async.firestore.names import Home
from msr_async.framing import framed
from msr_async.testing.emulator import find_emulator, find_java
from tests.support.firestore_server import FirestoreServer

ClientsT = TypeVar("ClientsT", bound=Clients)
OWN, GOOGLE = "own", "google"
_AT_ONCE = 300
"""Documents in one commit."""
_Document: Any = documents.Document.pb()

only_own = pytest.mark.parametrize("firestore_target", [OWN], indirect=True)
"""For a test of what no emulator does, or that looks at the wire."""
only_google = pytest.mark.parametrize("firestore_target", [GOOGLE], indirect=True)
"""For a test that needs nothing but a real database."""


@dataclass(frozen=True, kw_only=True)
class FirestoreTarget:
    """A project of the test's own, empty, on one of the two."""

    address: str
    project: str
    server: FirestoreServer | None
    """Ours, for its faults and its log; None for Google's."""

    @property
    def url(self) -> str:
        return f"firestore://{self.project}?emulator={self.address}"

    @property
    def home(self) -> Home:
        return Home(project=self.project, database="(default)")

    @asynccontextmanager
    async def client(self, project: str | None = None, database: str = "(default)") -> AsyncIterator[AsyncClient]:
        """The native client, to put things in and to look at them from outside."""
        clients = Clients(Home(project=project or self.project, database=database), emulator=self.address)
        try:
            yield clients.native
        finally:
            await clients.close()


def target(address: str, server: FirestoreServer | None) -> FirestoreTarget:
    return FirestoreTarget(address=address, project=f"test-{secrets.token_hex(6)}", server=server)


@asynccontextmanager
async def opening(target: FirestoreTarget, kind: Callable[..., ClientsT]) -> AsyncIterator[Callable[..., ClientsT]]:
    """Opens clients of that kind to the test's own database, with more arguments if they take any; closes them all."""
    async with AsyncExitStack() as stack:

        def open_clients(*args: Any, **options: Any) -> ClientsT:
            clients = kind(target.home, target.address, *args, **options)
            stack.push_async_callback(clients.close)
            return clients

        yield open_clients


async def commit(clients: Clients, paths: Sequence[str], fields: Mapping[str, Any] | None = None) -> None:
    """Documents at these paths, all with these fields."""
    body = _Document(fields=fields or {}).SerializeToString()
    for start in range(0, len(paths), _AT_ONCE):
        content = [framed(clients.home.name(path).encode()) + body for path in paths[start : start + _AT_ONCE]]
        request = wire.batch(clients.home.path, [wire.update(item) for item in content])
        await clients.unary("Commit")(request, metadata=clients.metadata, timeout=30)


def require_emulator() -> None:
    """Skips the test without an emulator on this machine, and fails it when MSR_REQUIRE_SERVICES=1."""
    try:
        missing = "Firestore emulator" if find_emulator() is None else "Java" if find_java() is None else ""
    except ToolMissing as error:
        pytest.fail(str(error))
    if missing:
        reason = f"no {missing} here: see 'Servers for the tests' in CONTRIBUTING.md"
        if os.environ.get("MSR_REQUIRE_SERVICES") == "1":
            pytest.fail(reason)
        pytest.skip(reason)


def running_elsewhere() -> str | None:
    """The address of the emulator that FIRESTORE_EMULATOR_HOST names, if it does; fails the test when none answers."""
    address = os.environ.get("FIRESTORE_EMULATOR_HOST")
    if not address:
        return None
    try:
        with urllib.request.urlopen(f"http://{address}/", timeout=5):
            return address
    except (OSError, ValueError) as error:
        pytest.fail(f"FIRESTORE_EMULATOR_HOST names {address}, where no emulator answers: {error}")
