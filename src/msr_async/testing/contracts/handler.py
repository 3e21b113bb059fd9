"""All that a `DatabaseMigrationHandler` of a database with a language of its own promises, but for backups."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Generic, TypeVar

from .book import BookContract
from .lock import LockContract
from .run import RunContract
from .schema import SchemaContract
from .script import ScriptContract
from .world import World

ConnT = TypeVar("ConnT")


class HandlerContract(
    RunContract[ConnT],
    BookContract[ConnT],
    LockContract[ConnT],
    ScriptContract[ConnT],
    SchemaContract[ConnT],
    Generic[ConnT],
):
    """Subclass it, and give `world`. A backend that lacks one of these subclasses the others."""

    def world(self) -> AbstractAsyncContextManager[World[ConnT]]:
        """A fresh database for one test."""
        raise NotImplementedError
