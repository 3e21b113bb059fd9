"""Handlers and units of work for the tests of the Firestore backend."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from msr_async.firestore import FirestoreHandler
from msr_async.protocols import WorkOptions
from tests.support.firestore import FirestoreTarget

TRANSACTION = WorkOptions()


def handler_of(target: FirestoreTarget, **settings: Any) -> FirestoreHandler:
    return FirestoreHandler(target.project, emulator=target.address, **settings)


def ignore(holder: object, waited: float) -> None:
    """For a lock that nobody waits for."""


def putting(handler: FirestoreHandler, *paths: str, **fields: Any) -> Callable[[Any], Awaitable[None]]:
    """A unit of work that writes these documents."""

    async def work(transaction: Any) -> None:
        for path in paths:
            transaction.set(handler.db.document(path), fields)

    return work


async def put(handler: FirestoreHandler, *paths: str, **fields: Any) -> None:
    await handler.run(putting(handler, *paths, **fields), TRANSACTION)


async def found(target: FirestoreTarget, collection: str = "things") -> dict[str, Any]:
    """The documents of a collection, seen from outside."""
    async with target.client() as client:
        return {line.id: line.to_dict() async for line in client.collection(collection).stream()}
