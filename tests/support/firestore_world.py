"""Firestore as the contract suites and the behaviours want to speak of it: a table is a collection, a row a document."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from google.api_core.exceptions import Aborted
from google.cloud.firestore import AsyncClient, AsyncTransaction

from msr_async.firestore import FirestoreHandler
from msr_async.firestore.clients import Clients
from msr_async.firestore.names import LOCK_COLLECTION, Home


class FirestoreWorld:
    """A project whose documents hold texts. A table without rows is not there at all."""

    def __init__(self, handler: FirestoreHandler, outside: AsyncClient, address: str) -> None:
        self._handler = handler
        self._outside = outside
        self._address = address

    @property
    def handler(self) -> FirestoreHandler:
        return self._handler

    def another(self) -> AbstractAsyncContextManager[FirestoreHandler]:
        return FirestoreHandler(self._handler.home.project, emulator=self._address)

    async def put(self, conn: AsyncTransaction | AsyncClient, table: str, key: str, value: str, /) -> None:
        if isinstance(conn, AsyncTransaction):
            conn.set(self._outside.collection(table).document(key), {"value": value})
        else:
            await conn.collection(table).document(key).set({"value": value})

    async def drop(self, conn: AsyncTransaction | AsyncClient, table: str, /) -> None:
        async for row in self._outside.collection(table).stream():
            if isinstance(conn, AsyncTransaction):
                conn.delete(row.reference)
            else:
                await row.reference.delete()

    async def contents(self) -> Mapping[str, Mapping[str, str]]:
        found: dict[str, dict[str, str]] = {}
        async for table in self._outside.collections():
            if table.id != LOCK_COLLECTION:
                found[table.id] = {row.id: _said(row.to_dict() or {}) async for row in table.stream()}
        return found

    def put_line(self, table: str, key: str, value: str, /) -> str:
        return f"db.set(ctx.handler.db.collection({table!r}).document({key!r}), {{'value': {value!r}}})"

    def drop_line(self, table: str, /) -> str:
        rows = f"[row.reference async for row in ctx.handler.db.collection({table!r}).stream()]"
        return f"[db.delete(row) for row in {rows}]"

    def put_text(self, table: str, key: str, value: str, /) -> str:
        return f"put {table} {key} {value}"  # in no language: Firestore has none

    def drop_text(self, table: str, /) -> str:
        return f"drop {table}"

    def transient_error(self) -> Exception:
        return Aborted("Too much contention on these documents.")  # type: ignore[no-untyped-call]


def _said(fields: dict[str, Any]) -> str:
    return str(fields["value"]) if fields.keys() == {"value"} else str(sorted(fields.items()))


@asynccontextmanager
async def firestore_world(address: str, environment: str | None = None) -> AsyncIterator[FirestoreWorld]:
    """A fresh project on the server at that address."""
    project = f"test-{secrets.token_hex(6)}"
    outside = Clients(Home(project=project, database="(default)"), emulator=address)
    try:
        async with FirestoreHandler(project, emulator=address, environment=environment) as handler:
            yield FirestoreWorld(handler, outside.native, address)
    finally:
        await outside.close()
