"""The migration lock: a lease in two documents, judged by the server's time alone.

`lock` says who has it and changes with every unit of work; `heartbeat` changes every few seconds. They are two, so that
a beat and a unit of work never wait for each other.
"""

from __future__ import annotations

import asyncio
import os
import random
import socket
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import anyio
from google.api_core.exceptions import Aborted, AlreadyExists, FailedPrecondition, NotFound
from google.cloud.firestore import SERVER_TIMESTAMP
from google.cloud.firestore_v1.types import write as write_types
from msgspec import Struct

from ..errors import ConnectionLost, LockNotAcquired
from ..models import LockInfo
from ..shielding import to_its_end, undisturbed
from .cancelling import recognised
from .clients import Clients
from .names import LOCK_COLLECTION
from .translating import AMBIGUOUS, ERRORS, bounded, code_of, translating

T = TypeVar("T")

LOCK, HEARTBEAT = f"{LOCK_COLLECTION}/lock", f"{LOCK_COLLECTION}/heartbeat"

_TIMEOUT = 10.0
"""Seconds for one request about the lock."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0
_CONFLICTS = (Aborted, AlreadyExists, FailedPrecondition, NotFound)
_Write: Any = write_types.Write.pb()


class _Seen(Struct, frozen=True, kw_only=True):
    """Both documents as they were at one time."""

    lock: dict[str, Any] | None
    lock_time: Any
    beat: dict[str, Any] | None
    beat_time: Any
    now: datetime

    def expired(self, lease: float) -> bool:
        newest = max((moment for moment in (self.beat_time, self.lock_time) if moment is not None), default=None)
        return newest is None or self.now - newest > timedelta(seconds=lease)


class _Held:
    """The lease that this process holds."""

    def __init__(self, token: str, lock_time: Any, beat_time: Any) -> None:
        self.token = token
        self.lock_time = lock_time
        """When the lock's document was last changed by us: what the fence stands on."""
        self.beat_time = beat_time
        self.renewed = time.monotonic()
        self.lost = ""
        """Why, once it is."""


class FirestoreLock:
    """At most one holder a database and history.

    Args:
        lease: seconds after the last beat for which the lock stays with a holder that died.
        heartbeat: seconds between two beats.
    """

    def __init__(self, open: Callable[[], Clients], *, lease: float, heartbeat: float) -> None:
        self._open = open
        self._lease = lease
        self._heartbeat = heartbeat
        self._held: _Held | None = None

    def __repr__(self) -> str:
        return f"<FirestoreLock, {'held' if self._held else 'not held'}>"

    # -- for people and for the engine -------------------------------------------------------------

    @asynccontextmanager
    async def hold(self, *, timeout: float, waiting: Callable[[LockInfo | None, float], None]) -> AsyncIterator[None]:
        held = await self._take(timeout, waiting)
        self._held = held
        beating = asyncio.ensure_future(self._beat(held))
        try:
            yield
        finally:
            beating.cancel()
            self._held = None
            await to_its_end(self._give_back(held.token, beating))

    async def status(self) -> LockInfo | None:
        with translating("Looking at the migration lock"):
            seen = await self._look()
        return None if seen.lock is None or seen.expired(self._lease) else _info(seen)

    async def check(self) -> None:
        held = self._held
        if held is None:
            return
        if not held.lost:
            with translating("Looking whether the migration lock is still held"):
                seen = await self._look()
            if seen.lock is None:
                held.lost = "somebody released it"
            elif seen.lock.get("token") != held.token:
                held.lost = f"{_info(seen)} took it over after it had run out"
        if held.lost:
            raise _lost(held.lost)

    async def release(self) -> LockInfo | None:
        while True:
            with translating("Releasing the migration lock"):
                seen = await self._look()
                if seen.lock is None:
                    return None
                client = self._open().native
                batch = client.batch()
                batch.delete(client.document(LOCK), option=client.write_option(last_update_time=seen.lock_time))
                batch.delete(client.document(HEARTBEAT))
                try:
                    await self._asked(batch.commit(retry=None, timeout=_TIMEOUT))
                except _CONFLICTS:
                    await anyio.sleep(_FIRST_PAUSE * random.random())  # its holder has just done something
                    continue
            return None if seen.expired(self._lease) else _info(seen)

    # -- for units of work -------------------------------------------------------------------------

    def fence(self, unit: str) -> Any:
        """A write that makes its commit fail when the lock is not ours any more; None when none is held."""
        held = self._held
        if held is None:
            return None
        home = self._open().home
        write = _Write()
        write.update.name = home.name(LOCK)
        write.update.fields["unit"].string_value = unit
        write.update_mask.field_paths.append("unit")
        moment = held.lock_time
        write.current_document.update_time.CopyFrom(moment if hasattr(moment, "CopyFrom") else moment.timestamp_pb())
        return write

    def moved(self, moment: Any) -> None:
        """A commit with a fence in it was carried out."""
        if self._held is not None:
            self._held.lock_time = moment

    async def settled(self, unit: str) -> bool:
        """Whether the unit of work was committed whose answer was lost. When it was not, it cannot be any more: what
        its fence stands on is changed, lest it arrive late.

        Raises:
            ConnectionLost: the lock was lost meanwhile, or the database cannot be asked.
        """
        bar, pause = f"not {unit}", _FIRST_PAUSE
        deadline = time.monotonic() + max(self._lease, _TIMEOUT)
        while True:
            try:
                seen = await self._look()
                held = self._held
                if held is None or seen.lock is None or seen.lock.get("token") != held.token:
                    raise _unknown(f"the migration lock with it ({'it was released' if seen.lock is None else _info(seen)})")
                if seen.lock.get("unit") in (unit, bar):
                    self.moved(seen.lock_time)
                    return bool(seen.lock["unit"] == unit)
                batch = self._open().native.batch()
                option = batch._client.write_option(last_update_time=seen.lock_time)
                batch.update(batch._client.document(LOCK), {"unit": bar}, option=option)
                await batch.commit(retry=None, timeout=_TIMEOUT)
            except ERRORS as error:
                if time.monotonic() > deadline:
                    raise _unknown("the database cannot be asked") from error
                await anyio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)

    # -- the lease ---------------------------------------------------------------------------------

    async def _take(self, timeout: float, waiting: Callable[[LockInfo | None, float], None]) -> _Held:
        started, pause = time.monotonic(), _FIRST_PAUSE
        token = uuid.uuid4().hex
        while True:
            with translating("Taking the migration lock"):
                seen = await self._look()
                if seen.lock is None or seen.expired(self._lease):
                    # A lock that was taken as its taker was cancelled would stand until its lease has run out.
                    held, cancelled = await undisturbed(self._try(seen, token))
                    if cancelled is not None:
                        if held is not None:
                            await to_its_end(self._give_back(token))
                        raise cancelled
                    if held is not None:
                        return held
                    seen = await self._look()
            holder = None if seen.lock is None else _info(seen)
            waited = time.monotonic() - started
            if waited >= timeout:
                raise LockNotAcquired(holder, waited)
            waiting(holder, waited)
            await anyio.sleep(min(pause * (0.5 + random.random() / 2), max(timeout - waited, 0.0)))
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def _try(self, seen: _Seen, token: str) -> _Held | None:
        """One commit that takes what was seen free or run out; None when somebody else did something in between."""
        client = self._open().native
        lock, beat = client.document(LOCK), client.document(HEARTBEAT)
        said = {
            "holder": _myself(),
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
        try:
            results = await self._asked(batch.commit(retry=None, timeout=_TIMEOUT))
        except _CONFLICTS:
            return None
        except ERRORS as error:
            if code_of(error) not in AMBIGUOUS:
                raise
            again = await self._look()
            if again.lock is None or again.lock.get("token") != token:
                raise
            return _Held(token, again.lock_time, again.beat_time)
        return _Held(token, results[0].update_time, results[1].update_time)

    async def _beat(self, held: _Held) -> None:
        number = 0
        while not held.lost:
            await asyncio.sleep(self._heartbeat)
            number += 1
            try:
                await self._renew(held, number)
            except Exception:
                # Unknown is not lost: the server may come back before the lease has run out.
                if time.monotonic() - held.renewed > self._lease:
                    held.lost = f"it could not be renewed for {self._lease:g} s"

    async def _renew(self, held: _Held, number: int) -> None:
        client = self._open().native
        begun = time.monotonic()
        batch = client.batch()
        option = client.write_option(last_update_time=held.beat_time)
        batch.update(client.document(HEARTBEAT), {"beat": number}, option=option)
        try:
            (result,) = await batch.commit(retry=None, timeout=min(_TIMEOUT, max(self._heartbeat, 1.0)))
            held.beat_time = result.update_time
        except (FailedPrecondition, NotFound):
            # A beat whose answer was lost has moved the time as well.
            seen = await self._look()
            if seen.beat is None or seen.beat.get("token") != held.token:
                held.lost = "somebody released it" if seen.lock is None else f"{_info(seen)} took it over"
                return
            held.beat_time = seen.beat_time
        held.renewed = begun

    async def _give_back(self, token: str, beating: asyncio.Future[None] | None = None) -> None:
        if beating is not None:
            await asyncio.wait({beating})
        client = self._open().native
        deadline = time.monotonic() + _TIMEOUT
        # A lock that cannot be given back runs out by itself; what went wrong before matters more than that.
        while time.monotonic() < deadline:
            with suppress(*ERRORS):
                seen = await self._look()
                if seen.lock is None or seen.lock.get("token") != token:
                    return
                batch = client.batch()
                batch.delete(client.document(LOCK), option=client.write_option(last_update_time=seen.lock_time))
                batch.delete(client.document(HEARTBEAT))
                await batch.commit(retry=None, timeout=_TIMEOUT)
                return
            await asyncio.sleep(_FIRST_PAUSE)

    async def _look(self) -> _Seen:
        client = self._open().native

        async def read() -> dict[str, Any]:
            references = [client.document(LOCK), client.document(HEARTBEAT)]
            found = client.get_all(references, **bounded(_TIMEOUT, _TIMEOUT))
            return {document.reference.id: document async for document in found}

        found = await self._asked(read())
        lock, beat = found["lock"], found["heartbeat"]
        return _Seen(
            lock=lock.to_dict(),
            lock_time=lock.update_time,
            beat=beat.to_dict(),
            beat_time=beat.update_time,
            now=lock.read_time,
        )

    async def _asked(self, work: Awaitable[T]) -> T:
        return await recognised(work)


def _info(seen: _Seen) -> LockInfo:
    said = seen.lock or {}
    since = said.get("since")
    return LockInfo(
        holder=str(said.get("holder", "somebody unknown")),
        since=datetime.fromtimestamp(since.timestamp(), UTC) if isinstance(since, datetime) else None,
    )


def _myself() -> str:
    return f"{socket.gethostname()} pid {os.getpid()}"


def _unknown(why: str) -> ConnectionLost:
    return ConnectionLost(
        f"The answer to a commit was lost, and {why}: it may have happened.",
        hint="Look at the history and at who runs migrations, then run again.",
    )


def _lost(why: str) -> ConnectionLost:
    return ConnectionLost(
        f"The migration lock was lost: {why}.",
        hint="Look who runs migrations, and whether they succeeded, then run again.",
    )
