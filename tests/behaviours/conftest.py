"""The setting of the behaviours, once for every database."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from msr_async.testing.contracts import World, memory_world
from tests.behaviours.setting import Setting
from tests.support.firestore_world import firestore_world
from tests.support.postgres_world import postgres_world

Ask = Callable[[str], Any]
"""Gives a fixture by its name, once it is needed."""

WORLDS: dict[str, Callable[[Ask], AbstractAsyncContextManager[World[Any]]]] = {
    "firestore": lambda ask: firestore_world(ask("own_firestore").address),
    "memory": lambda ask: memory_world(),
    "pg16": lambda ask: postgres_world(ask("servers").get(16)),
    "pg18": lambda ask: postgres_world(ask("servers").get(18)),
}
"""Databases that the behaviours are shown on, by name."""


@pytest.fixture(params=sorted(WORLDS))
async def world(request: pytest.FixtureRequest, one_loop: None) -> AsyncIterator[World[Any]]:
    """A fresh database with an open handler."""
    async with WORLDS[request.param](request.getfixturevalue) as fresh:
        yield fresh


@pytest.fixture
def setting(world: World[Any], tmp_path: Path) -> Setting:
    return Setting(world=world, folder=tmp_path)
