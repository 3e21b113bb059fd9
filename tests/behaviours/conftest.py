"""The setting of the behaviours, once for every database."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from msr_async.testing.contracts import World, memory_world
from tests.behaviours.setting import Setting
from tests.support.postgres_world import postgres_world
from tests.support.servers import Servers

WORLDS: dict[str, Callable[[Servers], AbstractAsyncContextManager[World[Any]]]] = {
    "memory": lambda servers: memory_world(),
    "pg16": lambda servers: postgres_world(servers.get(16)),
    "pg18": lambda servers: postgres_world(servers.get(18)),
}
"""Databases that the behaviours are shown on, by name."""


@pytest.fixture(params=sorted(WORLDS))
async def world(request: pytest.FixtureRequest, servers: Servers) -> AsyncIterator[World[Any]]:
    """A fresh database with an open handler."""
    async with WORLDS[request.param](servers) as fresh:
        yield fresh


@pytest.fixture
def setting(world: World[Any], tmp_path: Path) -> Setting:
    return Setting(world=world, folder=tmp_path)
