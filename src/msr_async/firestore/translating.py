"""Google's errors in our words: decided by their status, never by words in a message where there is another way."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import anyio
import grpc
from google.api_core.exceptions import GoogleAPICallError, GoogleAPIError, RetryError
from google.auth.exceptions import GoogleAuthError

from ..errors import ConnectionFailed, ConnectionLost, DatabaseError, MsrError, PermissionMissing

T = TypeVar("T")
Code = grpc.StatusCode

TRANSIENT = frozenset({Code.ABORTED, Code.DEADLINE_EXCEEDED, Code.RESOURCE_EXHAUSTED, Code.UNAVAILABLE})
"""The same work, tried again, may well succeed."""
AMBIGUOUS = frozenset({Code.CANCELLED, Code.DEADLINE_EXCEEDED, Code.INTERNAL, Code.UNAVAILABLE, Code.UNKNOWN})
"""A commit that got one of these may have been carried out all the same."""

PASSING = TRANSIENT | {Code.CANCELLED, Code.INTERNAL}
"""What changes nothing, or may be done twice, is asked again after one of these."""

_NO_TOKEN = "metadata from plugin"
"""In grpc's words, where Google's credentials gave no token."""

ERRORS = (GoogleAPIError, GoogleAuthError, grpc.RpcError)
"""Everything that Google's libraries raise."""


def code_of(error: BaseException) -> grpc.StatusCode | None:
    """The server's status that an error carries."""
    if isinstance(error, RetryError) and error.cause is not None:
        return code_of(error.cause)
    if isinstance(error, GoogleAPICallError):
        return error.grpc_status_code
    if isinstance(error, grpc.RpcError) and hasattr(error, "code"):
        code = error.code()
        return code if isinstance(code, grpc.StatusCode) else None
    return None


def is_transient(error: BaseException) -> bool:
    """Whether it, or what caused it, is a conflict or a server that could not answer just now.

    A lost connection is not: what was done over it may have been done.
    """
    cause: BaseException | None = error
    seen: set[int] = set()
    while cause is not None and id(cause) not in seen:
        if isinstance(cause, ConnectionLost):
            return False
        if code_of(cause) in TRANSIENT:
            return True
        seen.add(id(cause))
        cause = cause.__cause__
    return False


def words_of(error: BaseException) -> str:
    """The server's own words."""
    if isinstance(error, RetryError) and error.cause is not None:
        return words_of(error.cause)
    if isinstance(error, GoogleAPICallError):
        return str(error.message)
    if isinstance(error, grpc.RpcError) and hasattr(error, "details"):
        return str(error.details())
    return str(error)


_NO_DATABASE = re.compile(r"\bdatabase\b[^/]*\b(does not exist|not found)|datastore/setup", re.IGNORECASE)
"""A document that is missing is told by its full name, which has the word in it, too."""


def translate(error: BaseException, doing: str) -> MsrError:
    """`doing` says what was under way, as the sentence's beginning: "Reading users"."""
    if isinstance(error, MsrError):
        return error
    code, words = code_of(error), words_of(error).strip().rstrip(".")
    match code:
        case Code.PERMISSION_DENIED:
            return PermissionMissing(
                f"{doing}: permission denied ({words}).",
                hint="Give these credentials the role roles/datastore.user, and see that the project is the right one.",
            )
        case Code.UNAUTHENTICATED:
            return ConnectionFailed(
                f"{doing}: the credentials were not accepted ({words}).",
                hint="Renew them (gcloud auth application-default login), or name a service account's file.",
            )
        case Code.FAILED_PRECONDITION if "datastore mode" in words.lower():
            return ConnectionFailed(
                f"{doing}: the database is in Datastore mode.",
                hint="msr_async works with databases in Native mode; name another one.",
            )
        case Code.NOT_FOUND if _NO_DATABASE.search(words):
            return ConnectionFailed(
                f"{doing}: there is no such database ({words}).",
                hint="Check project and database, or create it: gcloud firestore databases create.",
            )
        case Code.UNAVAILABLE if _NO_TOKEN in words.lower():
            return _no_credentials(doing, words)
        case Code.UNAVAILABLE:
            return ConnectionLost(
                f"{doing}: the server cannot be reached ({words}).",
                hint="Check the network, and the address of the emulator if it is one; then run again.",
            )
        case Code.DEADLINE_EXCEEDED:
            return DatabaseError(f"{doing}: the server did not answer in time ({words}).", hint="Run it again.")
        case Code.RESOURCE_EXHAUSTED:
            return DatabaseError(
                f"{doing}: a quota is used up ({words}).",
                hint="Look at the project's quotas, or try again later with fewer writes at once.",
            )
        case Code.ABORTED:
            return DatabaseError(f"{doing}: another transaction was in the way ({words}).", hint="Run it again.")
        case None if isinstance(error, GoogleAuthError):
            return _no_credentials(doing, words)
        case None:
            return DatabaseError(f"{doing}: {type(error).__name__}: {words}.")
        case _:
            return DatabaseError(f"{doing}: {words} ({code.name}).")


def _no_credentials(doing: str, words: str) -> ConnectionFailed:
    return ConnectionFailed(
        f"{doing}: the credentials gave no access ({words}).",
        hint="Run gcloud auth application-default login, or give credentials=... a service account's file.",
    )


def unreachable(error: DatabaseError, host: str, *, emulated: bool, doing: str) -> ConnectionFailed:
    """The same error before anything was ever heard of the database: what matters then is its address."""
    cause = error.__cause__
    words = "nothing was heard" if cause is None else words_of(cause).strip().rstrip(".")
    if _NO_TOKEN in words.lower():
        return _no_credentials(doing, words)
    where = f"the emulator at {host}" if emulated else host
    if cause is not None and code_of(cause) is Code.DEADLINE_EXCEEDED:
        return ConnectionFailed(
            f"{doing}: {where} did not answer in time ({words}).",
            hint="See that it is the right address, that no firewall is in between, and that it is not overloaded.",
        )
    return ConnectionFailed(
        f"{doing}: {where} cannot be reached ({words}).",
        hint="Start the emulator, or correct its address."
        if emulated
        else "Check the network, and whether a proxy or a firewall is in between.",
    )


async def patiently(
    attempt: Callable[[], Awaitable[T]], patience: float, *, hopeless: Callable[[], bool] = lambda: False
) -> T:
    """Await what may be done twice, again for `patience` seconds while the server cannot answer and may yet."""
    deadline, pause = time.monotonic() + patience, 0.05
    while True:
        try:
            return await attempt()
        except ERRORS as error:
            if code_of(error) not in PASSING or time.monotonic() >= deadline or hopeless():
                raise
        await anyio.sleep(pause * (0.5 + random.random() / 2))
        pause = min(2 * pause, 2.0)


@contextmanager
def translating(doing: str) -> Iterator[None]:
    """Everything that Google's libraries raise inside comes out as one of ours, with theirs as its cause."""
    try:
        yield
    except ERRORS as error:
        raise translate(error, doing) from error
