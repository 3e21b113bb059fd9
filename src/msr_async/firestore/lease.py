"""The two documents of the migration lock, read and written; every time in them is the server's."""

from __future__ import annotations

import math
import os
import socket
from datetime import UTC, datetime
from typing import Any

from google.api_core.exceptions import Aborted, AlreadyExists, FailedPrecondition, NotFound
from google.cloud.firestore import SERVER_TIMESTAMP, AsyncWriteBatch
from msgspec import Struct

from ..models import LockInfo
from .cancelling import recognised
from .clients import Clients
from .names import LOCK_COLLECTION
from .translating import patiently

LOCK, HEARTBEAT = f"{LOCK_COLLECTION}/lock", f"{LOCK_COLLECTION}/heartbeat"

TIMEOUT = 10.0
"""Seconds for one request about the lock, and for asking it again."""
CONFLICTS = (Aborted, AlreadyExists, FailedPrecondition, NotFound)
"""Somebody else did something in between."""


class Seen(Struct, frozen=True, kw_only=True):
    """Both documents as they were at one time."""

    lock: dict[str, Any] | None
    lock_time: Any
    beat: dict[str, Any] | None
    beat_time: Any
    now: datetime

    @property
    def token(self) -> str | None:
        """Of whoever has the lock."""
        return None if self.lock is None else self.lock.get("token")

    @property
    def silence(self) -> float:
        """Seconds since the last sign of life of whoever has the lock."""
        newest = max((moment for moment in (self.beat_time, self.lock_time) if moment is not None), default=None)
        return math.inf if newest is None else (self.now - newest).total_seconds()

    def expired(self, lease: float) -> bool:
        return self.silence > lease


async def look(clients: Clients) -> Seen:
    client = clients.native

    async def read() -> dict[str, Any]:
        references = [client.document(LOCK), client.document(HEARTBEAT)]
        found = client.get_all(references, retry=None, timeout=TIMEOUT)
        return {document.reference.id: document async for document in found}

    found = await recognised(patiently(read, TIMEOUT, hopeless=lambda: clients.refused))
    lock, beat = found["lock"], found["heartbeat"]
    return Seen(
        lock=lock.to_dict(),
        lock_time=lock.update_time,
        beat=beat.to_dict(),
        beat_time=beat.update_time,
        now=lock.read_time,
    )


async def take(clients: Clients, seen: Seen, token: str) -> tuple[Any, Any]:
    """One commit that takes what was seen free or run out; the times of both documents after it."""
    client = clients.native
    lock, beat = client.document(LOCK), client.document(HEARTBEAT)
    said = {
        "holder": f"{socket.gethostname()} pid {os.getpid()}",
        "pid": os.getpid(),
        "since": SERVER_TIMESTAMP,
        "token": token,
        "unit": "",
    }
    batch = client.batch()
    if seen.lock is None:
        batch.create(lock, said)
    else:
        batch.update(lock, said, option=client.write_option(last_update_time=seen.lock_time))
    if seen.beat is None:
        batch.create(beat, {"token": token, "beat": 0})
    else:
        option = client.write_option(last_update_time=seen.beat_time)
        batch.update(beat, {"token": token, "beat": 0}, option=option)
    results = await batch.commit(retry=None, timeout=TIMEOUT)
    return results[0].update_time, results[1].update_time


def deletion(clients: Clients, seen: Seen) -> AsyncWriteBatch:
    """What frees the lock, if its holder has not done anything since."""
    client = clients.native
    batch = client.batch()
    batch.delete(client.document(LOCK), option=client.write_option(last_update_time=seen.lock_time))
    batch.delete(client.document(HEARTBEAT))
    return batch


def info(seen: Seen) -> LockInfo:
    said = seen.lock or {}
    since = said.get("since")
    return LockInfo(
        holder=str(said.get("holder", "somebody unknown")),
        since=datetime.fromtimestamp(since.timestamp(), UTC) if isinstance(since, datetime) else None,
    )
