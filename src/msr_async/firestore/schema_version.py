"""The history: a collection with a document a line, and one beside it for notes."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from google.cloud.firestore import AsyncWriteBatch
from msgspec.structs import asdict

from ..errors import ConnectionLost, DatabaseError
from ..models import AppliedMigration
from ..protocols import WorkOptions
from . import marking, reading
from .cancelling import recognised
from .clients import Clients
from .translating import patiently, translating, unreachable
from .units import Connection, Units, UnitTransaction

_TIMEOUT, _PATIENCE = 20.0, 60.0
"""Seconds for one attempt, and for all of them."""
_FIRST = reading.LIMITS.at_most(10.0)


class FirestoreSchemaVersion:
    """The book of what was applied.

    Args:
        collection: its name; the notes stand in `<collection>_notes`.
    """

    def __init__(self, open: Callable[[], Clients], units: Units, collection: str) -> None:
        self._open = open
        self._units = units
        self._lines = collection
        self._notes = f"{collection}_notes"

    async def applied(self) -> Sequence[AppliedMigration]:
        """As the protocol says.

        Raises:
            RestoreUnfinished: a restore of this database has not come to its end.
        """
        clients = self._open()
        mark = await _first_word(clients)
        if mark is not None:
            raise marking.unfinished(mark)
        return await self.lines()

    async def lines(self, at: datetime | None = None) -> tuple[AppliedMigration, ...]:
        """The same, whether a restore is under way or not; now, or as of a moment that can still be read."""
        clients = self._open()

        async def read() -> list[AppliedMigration]:
            lines = clients.native.collection(self._lines).stream(retry=None, timeout=_TIMEOUT, read_time=at)
            return [_entry(line.id, line.to_dict() or {}) async for line in lines]

        with translating("Reading the history"):
            entries = await recognised(patiently(read, _PATIENCE))
        return tuple(sorted(entries, key=lambda entry: (entry.version is None, entry.version or 0, entry.id)))

    async def ensure(self, conn: Connection, /) -> None:
        about = self._open().native.collection(self._notes).document("about")
        await self._write(conn, lambda unit: unit.set(about, {"format": 1}))

    async def record(self, conn: Connection, entry: AppliedMigration, /, *, replace: bool = False) -> None:
        line = self._open().native.collection(self._lines).document(entry.id)
        said = asdict(entry)
        await self._write(conn, lambda unit: unit.set(line, said) if replace else unit.create(line, said))

    async def forget(self, conn: Connection, id: str, /) -> None:
        line = self._open().native.collection(self._lines).document(id)
        await self._write(conn, lambda unit: unit.delete(line))

    async def note(self, key: str, /) -> Any:
        async def read() -> dict[str, Any] | None:
            found = await self._note(key).get(retry=None, timeout=_TIMEOUT)
            said: dict[str, Any] | None = found.to_dict()
            return said

        with translating("Reading a note of the history"):
            said = await recognised(patiently(read, _PATIENCE))
        return None if said is None else json.loads(said["value"])

    async def keep_note(self, conn: Connection, key: str, value: Any, /) -> None:
        note = self._note(key)
        if value is None:
            await self._write(conn, lambda unit: unit.delete(note))
        else:
            # As text: a JSON value may hold what a field cannot, such as a list in a list.
            text = json.dumps(value, allow_nan=False)
            await self._write(conn, lambda unit: unit.set(note, {"value": text}))

    def _note(self, key: str) -> Any:
        return self._open().native.collection(self._notes).document(_note_id(key))

    async def _write(self, conn: Connection, write: Callable[[AsyncWriteBatch], None]) -> None:
        if isinstance(conn, UnitTransaction):
            write(conn.book)
            return

        async def unit(transaction: UnitTransaction) -> None:
            write(transaction.book)

        await self._units.run(unit, WorkOptions())


async def _first_word(clients: Clients) -> marking.Mark | None:
    """The mark of a restore. Mostly it is the first question to a database, and a wrong address is told soon."""
    if not clients.reached:
        try:
            await reading.now(clients, limits=_FIRST)
        except ConnectionLost as error:
            raise unreachable(error, clients.host, emulated=clients.emulated, doing="Reading the history") from error
        clients.reached = True
    return await marking.standing(clients)


def _note_id(key: str) -> str:
    """No two keys have the same, and none that of the document about the format."""
    return quote(key, safe=":,;@+ ") if ":" in key else f"={quote(key)}"


def _entry(id: str, said: dict[str, Any]) -> AppliedMigration:
    try:
        applied_at = said["applied_at"]
        return AppliedMigration(
            version=said["version"],
            name=said["name"],
            checksum=said["checksum"],
            applied_at=datetime.fromtimestamp(applied_at.timestamp(), UTC).replace(microsecond=applied_at.microsecond),
            duration=float(said["duration"]),
            applied_by=said["applied_by"],
            baseline=said.get("baseline", False),
            run=said.get("run", ""),
            fingerprint=said.get("fingerprint", ""),
        )
    except (KeyError, AttributeError, TypeError, ValueError) as error:
        raise DatabaseError(
            f"The history's document {id} is not one of msr_async's: {type(error).__name__}: {error}.",
            hint="Give the handler another version_collection, or put the document right.",
        ) from error
