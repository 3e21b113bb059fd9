"""What the server and the network answer, in our words: each with what to do next."""

from __future__ import annotations

import socket
import time
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import pytest
from google.api_core import exceptions
from google.auth.exceptions import RefreshError

from msr_async import ConnectionFailed, ConnectionLost, DatabaseError, MsrError, PermissionMissing
from msr_async.firestore import FirestoreHandler, handler, reading
from msr_async.firestore.translating import is_transient, translate
from msr_async.protocols import WorkOptions
from tests.firestore.opened import handler_of, ignore, put
from tests.support.firestore import FirestoreTarget, only_own

Code = grpc.StatusCode


async def describing(database: FirestoreHandler) -> None:
    await database.describe()


async def checking(database: FirestoreHandler) -> None:
    await database.check_connection()


async def reading_the_history(database: FirestoreHandler) -> None:
    await database.schema_version.applied()


async def writing(database: FirestoreHandler) -> None:
    await put(database, "things/a", value=1)


async def rehearsing(database: FirestoreHandler) -> None:
    async def work(transaction: Any) -> None:
        pass

    await database.run(work, WorkOptions(commit=False))


async def locking(database: FirestoreHandler) -> None:
    async with database.lock.hold(timeout=0, waiting=ignore):
        raise AssertionError


ALL = [describing, checking, reading_the_history, writing, rehearsing, locking]


@pytest.mark.parametrize("ask", ALL, ids=lambda ask: ask.__name__)
@pytest.mark.parametrize(
    ("code", "words", "kind", "expected"),
    [
        (
            Code.PERMISSION_DENIED,
            "Missing or insufficient permissions.",
            PermissionMissing,
            r"permission denied \(Missing or insufficient permissions\)\. Give these credentials the role",
        ),
        (
            Code.UNAUTHENTICATED,
            "Request had invalid authentication credentials.",
            ConnectionFailed,
            r"the credentials were not accepted .* Renew them",
        ),
        (
            Code.NOT_FOUND,
            "The database orders does not exist for project my-project",
            ConnectionFailed,
            r"there is no such database .* gcloud firestore databases create",
        ),
        (
            Code.FAILED_PRECONDITION,
            "The Cloud Firestore API is not available for Firestore in Datastore Mode database projects/p.",
            ConnectionFailed,
            r"the database is in Datastore mode\. msr_async works with databases in Native mode",
        ),
    ],
    ids=["permission", "credentials", "no database", "datastore mode"],
)
async def test_what_stands_in_the_way_is_told_at_every_question(
    firestore_server: Any,
    ask: Callable[[FirestoreHandler], Awaitable[None]],
    code: grpc.StatusCode,
    words: str,
    kind: type[MsrError],
    expected: str,
) -> None:
    async with FirestoreHandler("my-project", emulator=firestore_server.address) as database:
        firestore_server.faults.fail("*", code, words, times=99)
        begun = time.monotonic()
        with pytest.raises(kind, match=expected):
            await ask(database)
        assert time.monotonic() - begun < 5


@pytest.mark.parametrize("ask", [describing, checking], ids=lambda ask: ask.__name__)
async def test_an_emulator_that_does_not_run_is_told_in_time(
    monkeypatch: pytest.MonkeyPatch, one_loop: None, ask: Callable[[FirestoreHandler], Awaitable[None]]
) -> None:
    monkeypatch.setattr(handler, "_QUICK", reading.Limits(stream=1.0, patience=1.0))
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{nobody.getsockname()[1]}"
        async with FirestoreHandler("my-project", emulator=address) as database:
            with pytest.raises(ConnectionFailed, match=rf"the emulator at {address} cannot be reached .*Start the emu"):
                await ask(database)


async def test_credentials_that_give_no_token_are_not_taken_for_a_network_that_is_down(
    monkeypatch: pytest.MonkeyPatch, firestore_server: Any
) -> None:
    monkeypatch.setattr(handler, "_QUICK", reading.Limits(stream=1.0, patience=1.0))
    async with FirestoreHandler("my-project", emulator=firestore_server.address) as database:
        words = "Getting metadata from plugin failed with error: ('invalid_grant: Invalid JWT Signature.')"
        firestore_server.faults.fail("*", Code.UNAVAILABLE, words, times=99)
        with pytest.raises(ConnectionFailed, match=r"the credentials gave no access \(Getting metadata .* Run gcloud"):
            await describing(database)


def test_the_handlers_first_question_is_given_ten_seconds() -> None:
    assert handler._QUICK.patience == 10.0


@only_own
@pytest.mark.parametrize("ask", [checking, describing, reading_the_history, rehearsing], ids=lambda ask: ask.__name__)
async def test_what_passes_is_asked_again(
    firestore_target: FirestoreTarget, ask: Callable[[FirestoreHandler], Awaitable[None]]
) -> None:
    async with handler_of(firestore_target) as database:
        assert firestore_target.server
        rule = firestore_target.server.faults.fail("*", times=2)
        await ask(database)
        assert rule.times == 0


def status(code: grpc.StatusCode, words: str = "on command") -> exceptions.GoogleAPICallError:
    error: exceptions.GoogleAPICallError = exceptions.from_grpc_status(code, words)  # type: ignore[no-untyped-call]
    return error


@pytest.mark.parametrize(
    ("error", "kind", "expected", "again"),
    [
        (status(Code.UNAVAILABLE), ConnectionLost, "the server cannot be reached (on command). Check", True),
        (status(Code.DEADLINE_EXCEEDED), DatabaseError, "did not answer in time (on command). Run it again.", True),
        (status(Code.RESOURCE_EXHAUSTED), DatabaseError, "a quota is used up (on command). Look at the", True),
        (status(Code.ABORTED), DatabaseError, "another transaction was in the way (on command). Run it", True),
        (status(Code.INVALID_ARGUMENT), DatabaseError, "Asking: on command (INVALID_ARGUMENT).", False),
        (
            status(
                Code.NOT_FOUND,
                "No document to update: projects/p/databases/(default)/documents/users/42",
            ),
            DatabaseError,
            "Asking: No document to update: projects/p/databases/(default)/documents/users/42 (NOT_FOUND).",
            False,
        ),
        (
            status(
                Code.NOT_FOUND,
                "The database (default) does not exist for project p Please visit "
                "https://console.cloud.google.com/datastore/setup?project=p to add a Cloud Firestore database.",
            ),
            ConnectionFailed,
            "there is no such database",
            False,
        ),
        (status(Code.FAILED_PRECONDITION), DatabaseError, "Asking: on command (FAILED_PRECONDITION).", False),
        (
            exceptions.RetryError("Timeout of 60 s", cause=status(Code.UNAVAILABLE)),  # type: ignore[no-untyped-call]
            ConnectionLost,
            "the server cannot be reached (on command).",
            True,
        ),
        (
            status(Code.UNAVAILABLE, "Getting metadata from plugin failed with error: invalid_grant"),
            ConnectionFailed,
            "the credentials gave no access (Getting metadata from plugin failed with error: invalid_grant). Run gcloud",
            True,
        ),
        (RefreshError("invalid_grant"), ConnectionFailed, "the credentials gave no access (invalid_grant).", False),  # type: ignore[no-untyped-call]
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_status_becomes_a_sentence_with_the_next_step(
    error: Exception, kind: type[MsrError], expected: str, again: bool
) -> None:
    told = translate(error, "Asking")
    assert type(told) is kind
    assert expected in str(told)
    assert is_transient(error) is again


def test_an_error_of_ours_stays_as_it_is() -> None:
    ours = DatabaseError("Something.")
    assert translate(ours, "Asking") is ours
