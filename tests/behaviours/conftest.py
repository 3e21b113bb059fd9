"""The setting of the behaviours, once for every database."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from msr_async.testing.contracts import World
from tests.behaviours.setting import WORLDS, Setting


@pytest.fixture(params=sorted(WORLDS))
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World[Any]]:
    """A fresh database with an open handler."""
    async with WORLDS[request.param]() as fresh:
        yield fresh


@pytest.fixture
def setting(world: World[Any], tmp_path: Path) -> Setting:
    return Setting(world=world, folder=tmp_path)
