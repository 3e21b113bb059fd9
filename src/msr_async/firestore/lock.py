"""The migration lock: a lease in two documents, judged by the server's time alone.

`lock` says who has it and changes with every unit of work; `heartbeat` changes every few seconds. They are two, so that
a beat and a unit of work never wait for each other.
"""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import anyio
import grpc
from google.api_core.datetime_helpers import DatetimeWithNanoseconds
from google.api_core.exceptions import FailedPrecondition, NotFound
from google.cloud.firestore_v1.types import write as write_types

from ..errors import ConnectionLost, DatabaseError, LockNotAcquired
from ..models import LockInfo
from ..shielding import to_its_end, undisturbed
from .cancelling import recognised
from .clients import Clients
from .lease import CONFLICTS, HEARTBEAT, LOCK, TIMEOUT, Seen, deletion, info, look, take
from .reading import code_of as code_behind
from .translating import ERRORS, PASSING, code_of, translate, translating, unreachable

_GIVE_BACK_TIMEOUT = 15.0
"""Seconds."""
_IDLE = 65.0
"""Seconds after which a server has ended the transactions of a process that died: a minute, and a little."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0
_SILENCE = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
_Write: Any = write_types.Write.pb()


class _Held:
    """The lease that this process holds."""

    def __init__(self, token: str, lock_time: Any, beat_time: Any) -> None:
        self.token = token
        self.unit = ""
        """The last one that was to be committed under it."""
        self.lock_time = lock_time
        """When the lock's document was last changed by us: what the fence stands on."""
        self.beat_time = beat_time
        self.renewed = time.monotonic()
        self.alone_from = self.renewed
        """When nothing of an earlier holder's is left on the server."""
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
        seen = await self._looked("Looking at the migration lock")
        return None if seen.lock is None or seen.expired(self._lease) else info(seen)

    async def check(self) -> None:
        held = self._held
        if held is None:
            return
        if not held.lost:
            with translating("Looking whether the migration lock is still held"):
                seen = await look(self._open())
            if seen.lock is None:
                held.lost = "somebody released it"
            elif seen.lock.get("token") != held.token:
                held.lost = f"{info(seen)} took it over after it had run out"
            else:
                # A unit that was given up, and whose commit arrived all the same, has moved the fence.
                held.lock_time = max(held.lock_time, seen.lock_time)
        if held.lost:
            raise _lost(held.lost)

    async def release(self) -> LockInfo | None:
        ended: Seen | None = None
        failing = time.monotonic()
        while True:
            seen = await self._looked("Releasing the migration lock")
            with translating("Releasing the migration lock"):
                if seen.lock is None or (ended is not None and ended.token != seen.token):
                    break  # it went, and the answer was lost
                try:
                    await recognised(deletion(self._open(), seen).commit(retry=None, timeout=TIMEOUT))
                except CONFLICTS:
                    failing = time.monotonic()  # its holder has just done something
                except ERRORS as error:
                    if code_of(error) not in PASSING or time.monotonic() - failing > TIMEOUT:
                        raise
                    ended = seen
                else:
                    ended = seen
                    break
            await anyio.sleep(_FIRST_PAUSE * random.random())
        return None if ended is None or ended.expired(self._lease) else info(ended)

    # -- for units of work -------------------------------------------------------------------------

    @property
    def held(self) -> bool:
        """By this handler; whether it was lost meanwhile, `check` says."""
        return self._held is not None

    def fence(self, unit: str) -> Any:
        """A write that makes its commit fail when the lock is not ours any more; None when none is held."""
        held = self._held
        if held is None:
            return None
        held.unit = unit
        home = self._open().home
        write = _Write()
        write.update.name = home.name(LOCK)
        write.update.fields["unit"].string_value = unit
        write.update_mask.field_paths.append("unit")
        write.current_document.update_time.CopyFrom(held.lock_time.timestamp_pb())
        return write

    def moved(self, unit: str, moment: Any) -> None:
        """The commit with this unit's fence in it was carried out; `moment` is protobuf's."""
        held = self._held
        if held is not None and held.unit == unit:
            held.lock_time = max(held.lock_time, DatetimeWithNanoseconds.from_timestamp_pb(moment))  # type: ignore[no-untyped-call]

    async def settled(self, unit: str) -> bool:
        """Whether the unit of work was committed whose answer was lost. When it was not, it cannot be any more: what
        its fence stands on is changed, lest it arrive late.

        Raises:
            ConnectionLost: the lock was lost meanwhile, or the database cannot be asked.
        """
        bar, pause = f"not {unit}", _FIRST_PAUSE
        deadline = time.monotonic() + max(self._lease, TIMEOUT)
        while True:
            try:
                seen = await look(self._open())
                held = self._held
                if held is None or seen.lock is None or seen.lock.get("token") != held.token:
                    raise _unknown(
                        f"the migration lock with it ({'it was released' if seen.lock is None else info(seen)})"
                    )
                if seen.lock.get("unit") in (unit, bar):
                    held.lock_time = seen.lock_time
                    return bool(seen.lock["unit"] == unit)
                client = self._open().native
                batch = client.batch()
                option = client.write_option(last_update_time=seen.lock_time)
                batch.update(client.document(LOCK), {"unit": bar}, option=option)
                await batch.commit(retry=None, timeout=TIMEOUT)
            except ERRORS as error:
                if time.monotonic() > deadline:
                    raise _unknown("the database cannot be asked") from error
                await anyio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)

    async def outwait(self) -> None:
        """Wait until the transactions of a holder that died have ended: until then they lock what they have read."""
        if self._held is not None:
            await anyio.sleep(max(self._held.alone_from - time.monotonic(), 0.0))

    # -- the lease ---------------------------------------------------------------------------------

    async def _looked(self, doing: str) -> Seen:
        """Both documents. It may be the first question to the database: what is wrong then is mostly its address."""
        clients = self._open()
        try:
            with translating(doing):
                seen = await look(clients)
        except DatabaseError as error:
            if clients.reached or code_behind(error) not in _SILENCE:
                raise
            raise unreachable(error, clients.host, emulated=clients.emulated, doing=doing) from error
        clients.reached = True
        return seen

    async def _take(self, timeout: float, waiting: Callable[[LockInfo | None, float], None]) -> _Held:
        started, pause = time.monotonic(), _FIRST_PAUSE
        failing: float | None = None
        token = uuid.uuid4().hex
        while True:
            seen = await self._looked("Taking the migration lock")
            if seen.token == token:
                return _Held(token, seen.lock_time, seen.beat_time)  # the answer to an attempt of ours was lost
            if seen.lock is None or seen.expired(self._lease):
                # A lock that was taken as its taker was cancelled would stand until its lease has run out.
                taken, cancelled = await undisturbed(self._try(seen, token))
                if cancelled is not None:
                    if taken is not None:
                        await to_its_end(self._give_back(token))
                    raise cancelled
                if isinstance(taken, _Held):
                    return taken
                if taken is None:
                    failing = None
                    seen = await self._looked("Taking the migration lock")  # for the name of who was faster
                else:
                    failing = time.monotonic() if failing is None else failing
                    if code_of(taken) not in PASSING or time.monotonic() - failing > TIMEOUT:
                        raise translate(taken, "Taking the migration lock") from taken
            holder = None if seen.lock is None else info(seen)
            waited = time.monotonic() - started
            if failing is None:  # what fails is asked again, also by who does not want to wait for a holder
                if waited >= timeout:
                    raise LockNotAcquired(holder, waited)
                waiting(holder, waited)
            await anyio.sleep(min(pause * (0.5 + random.random() / 2), max(timeout - waited, _FIRST_PAUSE)))
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def _try(self, seen: Seen, token: str) -> _Held | Exception | None:
        """An error is handed back: it may have been carried out all the same, which the next look tells."""
        try:
            times = await take(self._open(), seen, token)
        except CONFLICTS:
            return None
        except ERRORS as error:
            return error
        held = _Held(token, *times)
        if seen.lock is not None:
            held.alone_from += max(_IDLE - seen.silence, 0.0)
        return held

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
            (result,) = await batch.commit(retry=None, timeout=min(TIMEOUT, max(self._heartbeat, 1.0)))
            held.beat_time = result.update_time
        except (FailedPrecondition, NotFound):
            # A beat whose answer was lost has moved the time as well.
            seen = await look(self._open())
            if seen.beat is None or seen.beat.get("token") != held.token:
                held.lost = "somebody released it" if seen.lock is None else f"{info(seen)} took it over"
                return
            held.beat_time = seen.beat_time
        held.renewed = begun

    async def _give_back(self, token: str, beating: asyncio.Future[None] | None = None) -> None:
        if beating is not None:
            await asyncio.wait({beating})
        # A lock that cannot be given back runs out by itself; what went wrong before matters more than that.
        with suppress(TimeoutError):
            async with asyncio.timeout(_GIVE_BACK_TIMEOUT):
                while True:
                    if await self._given_back(token):
                        return
                    await asyncio.sleep(_FIRST_PAUSE)

    async def _given_back(self, token: str) -> bool:
        with suppress(*ERRORS):
            seen = await look(self._open())
            if seen.token == token:
                await deletion(self._open(), seen).commit(retry=None, timeout=TIMEOUT)
            return True
        return False


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
