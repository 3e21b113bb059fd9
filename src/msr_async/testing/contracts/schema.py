"""What a handler promises whose database has a schema."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Generic, TypeVar

from .saying import ensure, put
from .world import World

ConnT = TypeVar("ConnT")


class SchemaContract(Generic[ConnT]):
    """Subclass it, and give `world`."""

    def world(self) -> AbstractAsyncContextManager[World[ConnT]]:
        """A fresh database for one test."""
        raise NotImplementedError

    async def test_the_schema_is_told_by_object_without_the_book(self) -> None:
        async with self.world() as world:
            await ensure(world)
            empty = await world.handler.catalog()
            assert empty is not None, "this suite is for handlers with a schema"
            await put(world, "a", "1")
            one = await world.handler.catalog()
            await put(world, "a", "2")
            assert one == await world.handler.catalog() != empty
            assert one is not None
            assert any("things" in name for name in one.keys() - empty.keys())
            assert not any("schema_version" in name for name in one)
