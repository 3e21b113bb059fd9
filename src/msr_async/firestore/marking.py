"""The mark of a restore under way: one document, from before the first change until every write was confirmed.

Where the whole database was replaced, it stays until the documents were counted, too.
"""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Awaitable, Mapping
from datetime import UTC, datetime
from typing import Any

from google.api_core import exceptions
from google.api_core.exceptions import AlreadyExists, FailedPrecondition, GoogleAPIError, NotFound
from google.api_core.retry import AsyncRetry, if_exception_type
from google.cloud.firestore import SERVER_TIMESTAMP
from google.cloud.firestore_v1.types import document as documents
from msgspec import Struct

from ..errors import RestoreFailed, RestoreUnfinished
from ..models import RestoreMode, UnfinishedRestore
from . import reading
from .cancelling import recognised
from .clients import Clients
from .names import LOCK_COLLECTION
from .translating import ERRORS, patiently, translate

_Document: Any = documents.Document.pb()

PATH = f"{LOCK_COLLECTION}/restore"
_TIMEOUT, _PATIENCE = 20.0, 60.0
"""Seconds for one attempt, and for all of them."""


class Mark(Struct, frozen=True, kw_only=True):
    """What the mark says of its restore."""

    backup: str
    """The backup's id."""
    mode: str
    holder: str
    started: datetime | None
    run: str
    """Which restore put it there, so that two at once do not take each other's mark for their own."""

    @property
    def restore(self) -> UnfinishedRestore:
        """The same for others, who need not know what tells two of them apart."""
        return UnfinishedRestore(backup=self.backup, mode=self.mode, holder=self.holder, since=self.started)

    def __str__(self) -> str:
        return str(self.restore)


async def standing(clients: Clients, *, patience: float | None = None) -> Mark | None:
    """The mark that stands in the database, None where no restore is unfinished."""
    found = await _read(clients, _PATIENCE if patience is None else patience)
    return _mark(found.to_dict() or {}) if found.exists else None


async def with_time(clients: Clients, *, limits: reading.Limits = reading.LIMITS) -> tuple[datetime, Mark | None]:
    """The server's time, and the mark that stands at that very time: without one no restore is under way at it."""
    moment, found = await reading.seen(clients, PATH, limits=limits)
    if found is None:
        return moment, None
    said: dict[str, Any] = {}
    for name, value in _Document.FromString(found).fields.items():
        timed = value.WhichOneof("value_type") == "timestamp_value"
        said[name] = value.timestamp_value.ToDatetime(tzinfo=UTC) if timed else value.string_value
    return moment, _mark(said)


def _mark(said: Mapping[str, Any]) -> Mark:
    started = said.get("started")
    return Mark(
        backup=str(said.get("backup", "of an unknown id")),
        mode=str(said.get("mode", "unknown")),
        holder=str(said.get("holder", "somebody unknown")),
        started=started if isinstance(started, datetime) else None,
        run=str(said.get("run", "")),
    )


def unfinished(mark: Mark) -> RestoreUnfinished:
    """The refusal to use a database while the mark stands."""
    return RestoreUnfinished(
        f"The database is in the middle of {mark} that has not come to its end.",
        hint="Wait for it, or run the same restore again if it failed; a backup of the whole database, restored in the "
        "mode replace, makes it whole too. msr-async lock release --restore-mark keeps it as it is, partly restored.",
    )


async def put(clients: Clients, *, backup: str, mode: RestoreMode, whole: bool = False) -> Mark:
    """Mark the database.

    A `replace` of the whole database begins over the mark of another restore, for it leaves nothing of that one; so
    does a restore that is the same as the unfinished one. A `replace` of a selection would leave what is half done
    outside of it, and take the mark away at its end.

    Args:
        whole: the backup is one of the whole database, not of a selection.

    Raises:
        RestoreUnfinished: another restore's mark stands, and this one would build on what is half done.
    """
    run = uuid.uuid4().hex
    mark = Mark(backup=backup, mode=mode, holder=f"{socket.gethostname()} pid {os.getpid()}", started=None, run=run)
    said = {"backup": backup, "mode": mode, "holder": mark.holder, "run": run, "started": SERVER_TIMESTAMP}
    document: Any = clients.native.document(PATH)
    if mode == "replace" and whole:
        await _asked(document.set(said, **_bounded()))
        return mark
    try:
        await _asked(document.create(said, **_bounded()), AlreadyExists)
    except AlreadyExists:
        there = await standing(clients)
        # A lost answer makes the client ask twice, and then the mark is our own.
        if there is not None and there.run != run:
            if (there.backup, there.mode) != (backup, mode):
                raise unfinished(there) from None
            await _asked(document.set(said, **_bounded()))
        elif there is None:
            raise RestoreFailed(
                "Another restore of this database has just ended.", hint="Look at what it made, and run this one again."
            ) from None
    return mark


async def check(clients: Clients, mark: Mark) -> None:
    """Raises:
    RestoreFailed: another restore has begun over this one, or somebody took the mark away.
    """
    there = await standing(clients)
    if there is None or there.run != mark.run:
        raise _overtaken(there)


async def give_up(clients: Clients, *, backup: str) -> Mark | None:
    """Take away the mark of a restore that nobody will finish: the database stays as it is, partly restored.

    Args:
        backup: the id of that restore's backup, as a confirmation of what is given up.

    Returns:
        What the mark said; None where there was none.

    Raises:
        RestoreFailed: it is the mark of another restore.
    """
    there = await standing(clients)
    if there is None:
        return None
    if there.backup != backup:
        raise RestoreFailed(
            f"The restore that has not come to its end is another one: {there}.", hint="Name the backup of that one."
        )
    await remove(clients, there)
    return there


async def remove(clients: Clients, mark: Mark) -> None:
    """Take the mark away: the restore has come to its end, or is given up.

    Raises:
        RestoreFailed: it is not this restore's any more.
    """
    document: Any = clients.native.document(PATH)
    found = await _read(clients, _PATIENCE)
    if not found.exists or _mark(found.to_dict() or {}).run != mark.run:
        raise _overtaken(await standing(clients))
    seen = clients.native.write_option(last_update_time=found.update_time)
    try:
        await _asked(document.delete(option=seen, **_bounded()), FailedPrecondition, NotFound)
    except (FailedPrecondition, NotFound):
        there = await standing(clients)
        if there is not None:  # else a lost answer made the client ask twice
            raise _overtaken(there) from None


async def _read(clients: Clients, patience: float) -> Any:
    """The document, there or not. The client itself asks again only for a stream's beginning."""

    async def attempt() -> Any:
        return await clients.native.document(PATH).get(retry=None, timeout=min(_TIMEOUT, patience))

    found = await _asked(patiently(attempt, patience, hopeless=lambda: clients.refused))
    clients.reached = True
    return found


def _bounded() -> dict[str, Any]:
    """How long a write of the mark is tried."""
    again = if_exception_type(
        exceptions.Aborted,
        exceptions.DeadlineExceeded,
        exceptions.InternalServerError,
        exceptions.ResourceExhausted,
        exceptions.ServiceUnavailable,
    )
    return {
        "timeout": min(_TIMEOUT, _PATIENCE),
        "retry": AsyncRetry(predicate=again, initial=0.1, maximum=10.0, multiplier=2.0, timeout=_PATIENCE),
    }


async def _asked(work: Awaitable[Any], *expected: type[GoogleAPIError]) -> Any:
    """Await the native client; what it raises comes out as one of ours, but for what is expected."""
    try:
        return await recognised(work)
    except expected:
        raise
    except ERRORS as error:
        raise translate(error, f"The mark of a restore ({PATH})") from error


def _overtaken(there: Mark | None) -> RestoreFailed:
    if there is None:
        return RestoreFailed(
            "This restore was stopped: another one has gone over it and ended, or somebody has removed the mark of it.",
            hint="Let only one restore run at a time. Look at what the database holds before you run this one again.",
        )
    return RestoreFailed(
        f"Another restore has begun while this one ran: {there}.",
        hint="Let it come to its end, or run this one again when it has ended.",
    )
