"""How batches reach the database, whatever the server says meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio
import grpc
import pytest
from google.cloud.firestore_v1.types import document as types

from msr_async import MsrError, PermissionMissing, RestoreFailed
from msr_async.firestore import wire
from msr_async.firestore.modes import writing
from msr_async.firestore.names import Home
from msr_async.firestore.packing import Batch
from msr_async.firestore.ramping import Ramp
from msr_async.firestore.writing import Writer
from tests.support.firestore_carrying import contents
from tests.support.firestore_faults import Around, Response, Trouble, WatchedClients, failure


@asynccontextmanager
async def watched(target: Any, around: Around | None = None) -> AsyncIterator[WatchedClients]:
    clients = WatchedClients(Home(project=target.project, database="(default)"), target.address, around)
    try:
        yield clients
    finally:
        await clients.close()


def document(clients: WatchedClients, path: str, **fields: Any) -> bytes:
    said = types.Document(name=clients.home.name(path), fields=fields)
    return bytes(types.Document.serialize(said))


def batches_of(clients: WatchedClients, paths: Sequence[str], size: int, *, mode: Any = "overwrite") -> list[Batch]:
    write = writing(mode)
    return [
        Batch(
            writes=[
                write(document(clients, path, n=types.Value(string_value=path))) for path in paths[start : start + size]
            ],
        )
        for start in range(0, len(paths), size)
    ]


async def each(batches: Sequence[Batch]) -> AsyncIterator[Batch]:
    for batch in batches:
        yield batch


def writer(clients: WatchedClients, **settings: Any) -> Writer:
    return Writer(clients, **{"patience": 5.0, "jitter": lambda: -0.99, **settings})  # a hundredth of the delay


PATHS = [f"d/{number:04}" for number in range(120)]


async def test_all_batches_arrive_and_only_so_many_are_under_way(firestore_target: Any) -> None:
    async def slowly(request: Any, forward: Callable[[Any], Awaitable[Any]]) -> Any:
        await anyio.sleep(0.01)
        return await forward(request)

    async with watched(firestore_target, slowly) as clients:
        assert await writer(clients, in_flight=3).write(each(batches_of(clients, PATHS, 10))) == 0
        assert list(await contents(clients)) == PATHS
        assert clients.most_at_once == 3


@pytest.mark.parametrize("seed", range(3))
async def test_troubles_of_all_kinds_lose_nothing_and_double_nothing(firestore_target: Any, seed: int) -> None:
    trouble = Trouble(random.Random(seed))
    async with watched(firestore_target, trouble) as clients:
        await writer(clients).write(each(batches_of(clients, PATHS, 7)))
        assert list(await contents(clients)) == PATHS
        assert trouble.told > 5


async def test_only_what_failed_is_sent_again(firestore_target: Any) -> None:
    async def third_fails_once(request: Any, forward: Callable[[Any], Awaitable[Any]]) -> Any:
        answer = await forward(request)
        if len(request.writes) > 1:
            answer.status[2].code = grpc.StatusCode.ABORTED.value[0]
        return answer

    async with watched(firestore_target, third_fails_once) as clients:
        await writer(clients).write(each(batches_of(clients, PATHS[:6], 6)))
        assert Counter(clients.written) == {clients.home.name(path): 1 for path in PATHS[:6]} | {
            clients.home.name(PATHS[2]): 2
        }


async def test_what_is_there_already_is_kept_and_counted(firestore_target: Any) -> None:
    async with watched(firestore_target) as clients:
        await writer(clients).write(each([Batch(writes=[wire.update(document(clients, "d/0001"))])]))
        before = await contents(clients)
        kept = await writer(clients, keep=True).write(each(batches_of(clients, PATHS[:3], 3, mode="create")))
        after = await contents(clients)
        assert (kept, after["d/0001"], len(after)) == (1, before["d/0001"], 3)


async def test_the_document_that_is_refused_is_named_among_many(firestore_target: Any) -> None:
    async with watched(firestore_target) as clients:
        (batch,) = batches_of(clients, PATHS, 120)
        bad = document(clients, PATHS[77], __no__=types.Value(integer_value=1))
        batch.writes[77] = wire.update(bad)
        with pytest.raises(RestoreFailed, match=r"documents/d/0077 cannot be written: INVALID_ARGUMENT: .*__no__"):
            await writer(clients).write(each([batch]))


@pytest.mark.parametrize(
    ("code", "error", "words"),
    [
        (
            grpc.StatusCode.PERMISSION_DENIED,
            PermissionMissing,
            "d/0002 cannot be written: PERMISSION_DENIED: on command",
        ),
        (grpc.StatusCode.NOT_FOUND, RestoreFailed, "d/0002 cannot be written: NOT_FOUND: on command"),
    ],
)
async def test_a_refusal_for_good_is_not_tried_again(
    firestore_target: Any, code: grpc.StatusCode, error: type[MsrError], words: str
) -> None:
    async def refuse(request: Any, forward: Callable[[Any], Awaitable[Any]]) -> Any:
        answer = Response()
        for write in request.writes:
            status = answer.status.add()
            if write.update.name.endswith("0002"):
                status.code, status.message = code.value[0], "on command"
        return answer

    async with watched(firestore_target, refuse) as clients:
        with pytest.raises(error, match=words):
            await writer(clients).write(each(batches_of(clients, PATHS[:5], 5)))
        assert len(clients.sent) == 1


async def test_a_refused_request_says_so(firestore_target: Any) -> None:
    async def refuse(request: Any, forward: Callable[[Any], Awaitable[Any]]) -> Any:
        raise failure(grpc.StatusCode.PERMISSION_DENIED, "no role")

    async with watched(firestore_target, refuse) as clients:
        with pytest.raises(
            PermissionMissing, match=r"5 documents from .*d/0000 on cannot be written: PERMISSION_DENIED: no role"
        ):
            await writer(clients).write(each(batches_of(clients, PATHS[:5], 5)))


async def test_without_progress_it_is_given_up_and_the_last_answer_is_told(firestore_target: Any) -> None:
    async def away(request: Any, forward: Callable[[Any], Awaitable[Any]]) -> Any:
        raise failure(grpc.StatusCode.UNAVAILABLE, "nobody there")

    async with watched(firestore_target, away) as clients:
        with anyio.fail_after(5):
            with pytest.raises(
                RestoreFailed, match=r"taken no write for .* s; its last answer for .*UNAVAILABLE: nobody there"
            ):
                await writer(clients, patience=0.3).write(each(batches_of(clients, PATHS, 10)))


async def test_a_batch_may_wait_for_long_while_others_get_on(firestore_target: Any) -> None:
    begun = anyio.current_time()

    async def one_is_stuck(request: Any, forward: Callable[[Any], Awaitable[Any]]) -> Any:
        if request.writes[0].update.name.endswith("0000") and anyio.current_time() - begun < 0.8:
            raise failure(grpc.StatusCode.ABORTED)
        await anyio.sleep(0.05)
        return await forward(request)

    async with watched(firestore_target, one_is_stuck) as clients:
        await writer(clients, patience=0.5, in_flight=2).write(each(batches_of(clients, PATHS, 5)))
        assert list(await contents(clients)) == PATHS


async def test_waits_grow_between_attempts(firestore_target: Any) -> None:
    times: list[float] = []

    async def away(request: Any, forward: Callable[[Any], Awaitable[Any]]) -> Any:
        times.append(anyio.current_time())
        if len(times) < 4:
            raise failure(grpc.StatusCode.RESOURCE_EXHAUSTED)
        return await forward(request)

    async with watched(firestore_target, away) as clients:
        await writer(clients, jitter=lambda: 0.0).write(each(batches_of(clients, PATHS[:2], 2)))
    waits = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert waits[0] >= 0.05
    assert waits[1] >= 0.1
    assert waits[2] >= 0.2


async def test_an_error_of_the_source_comes_out_as_itself(firestore_target: Any) -> None:
    async def broken(batches: Sequence[Batch]) -> AsyncIterator[Batch]:
        for batch in batches:
            yield batch
        raise RestoreFailed("the source broke")

    async with watched(firestore_target) as clients:
        with pytest.raises(RestoreFailed, match="the source broke"):
            await writer(clients).write(broken(batches_of(clients, PATHS[:4], 2)))


async def test_a_refusal_comes_out_while_the_source_waits_for_the_server(firestore_target: Any) -> None:
    async def reading(batches: Sequence[Batch]) -> AsyncIterator[Batch]:
        for batch in batches:
            yield batch
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(3600)
        raise asyncio.CancelledError  # as grpc does: not the one that it was sent

    async def refuse(request: Any, forward: Callable[[Any], Awaitable[Any]]) -> Any:
        await anyio.sleep(0.05)
        raise failure(grpc.StatusCode.PERMISSION_DENIED, "no role")

    async with watched(firestore_target, refuse) as clients:
        with pytest.raises(PermissionMissing, match="no role"):
            await writer(clients).write(reading(batches_of(clients, PATHS[:4], 4)))


async def test_the_ramp_is_waited_for(firestore_target: Any) -> None:
    async with watched(firestore_target) as clients:
        begun = anyio.current_time()
        ramp = Ramp(anyio.current_time)
        await writer(clients, ramp=ramp).write(each(batches_of(clients, PATHS, 60)))
        assert anyio.current_time() - begun >= 0.12  # 60 documents at 500 a second before the second batch


async def test_a_server_that_answers_for_other_writes_is_not_believed(firestore_target: Any) -> None:
    async def too_few(request: Any, forward: Callable[[Any], Awaitable[Any]]) -> Any:
        answer = await forward(request)
        del answer.status[-1]
        return answer

    async with watched(firestore_target, too_few) as clients:
        with pytest.raises(RestoreFailed, match="3 writes were sent, and the server answered for 2"):
            await writer(clients).write(each(batches_of(clients, PATHS[:3], 3)))


async def test_cancelled_it_ends_at_once_and_nothing_is_under_way(firestore_target: Any) -> None:
    async def never(request: Any, forward: Callable[[Any], Awaitable[Any]]) -> Any:
        await anyio.sleep_forever()

    async with watched(firestore_target, never) as clients:
        with anyio.move_on_after(0.1) as scope:
            await writer(clients).write(each(batches_of(clients, PATHS, 10)))
        assert scope.cancelled_caught
        assert (clients.at_once, clients.most_at_once) == (0, 8)
