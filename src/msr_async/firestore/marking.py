"""The mark of a restore under way: one document, there from before the first change until all of it was checked."""

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
from ..models import RestoreMode
from . import reading
from .cancelling import recognised
from .clients import Clients
from .names import LOCK_COLLECTION
from .translating import ERRORS, translate

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

    def __str__(self) -> str:
        since = f", begun {self.started:%Y-%m-%d %H:%M:%S} UTC" if self.started else ""
        return f"a restore of the backup {self.backup} (mode {self.mode}, by {self.holder}{since})"


async def standing(clients: Clients, *, patience: float | None = None) -> Mark | None:
    """The mark that stands in the database, None where no restore is unfinished."""
    found: Any = await _asked(clients.native.document(PATH).get(**_bounded(patience)))
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
        hint="Wait for it, or run the same restore again if it failed; a restore of any backup in the mode replace "
        "makes the database whole too.",
    )


async def put(clients: Clients, *, backup: str, mode: RestoreMode) -> Mark:
    """Mark the database.

    `replace` begins over the mark of another restore, for it leaves nothing of that one; so does a restore that is the
    same as the unfinished one.

    Raises:
        RestoreUnfinished: another restore's mark stands, and this one would build on what is half done.
    """
    run = uuid.uuid4().hex
    mark = Mark(backup=backup, mode=mode, holder=f"{socket.gethostname()} pid {os.getpid()}", started=None, run=run)
    said = {"backup": backup, "mode": mode, "holder": mark.holder, "run": run, "started": SERVER_TIMESTAMP}
    document: Any = clients.native.document(PATH)
    if mode == "replace":
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


async def remove(clients: Clients, mark: Mark) -> None:
    """Take the mark away: the restore has come to its end.

    Raises:
        RestoreFailed: it is not this restore's any more.
    """
    document: Any = clients.native.document(PATH)
    found: Any = await _asked(document.get(**_bounded()))
    if not found.exists or (found.to_dict() or {}).get("run") != mark.run:
        raise _overtaken(await standing(clients))
    seen = clients.native.write_option(last_update_time=found.update_time)
    try:
        await _asked(document.delete(option=seen, **_bounded()), FailedPrecondition, NotFound)
    except (FailedPrecondition, NotFound):
        there = await standing(clients)
        if there is not None:  # else a lost answer made the client ask twice
            raise _overtaken(there) from None


def _bounded(patience: float | None = None) -> dict[str, Any]:
    patience = _PATIENCE if patience is None else patience
    again = if_exception_type(
        exceptions.Aborted,
        exceptions.DeadlineExceeded,
        exceptions.InternalServerError,
        exceptions.ResourceExhausted,
        exceptions.ServiceUnavailable,
    )
    return {
        "timeout": min(_TIMEOUT, patience),
        "retry": AsyncRetry(predicate=again, initial=0.1, maximum=10.0, multiplier=2.0, timeout=patience),
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
            "Somebody has removed the mark of this restore while it ran.",
            hint="Let only one restore run at a time, and run this one again.",
        )
    return RestoreFailed(
        f"Another restore has begun while this one ran: {there}.",
        hint="Let it come to its end, or run this one again when it has ended.",
    )
