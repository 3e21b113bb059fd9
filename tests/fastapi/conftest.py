"""A shop for each test."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fastapi.shop import PUT_A, Shop


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    """A database in memory and one pending migration."""
    shop = Shop(folder=tmp_path)
    shop.add(1, PUT_A)
    return shop
