"""PostgreSQL keeps what the protocols promise."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from msr_async.testing.contracts import BackupContract, HandlerContract, World
from msr_async.testing.embedded import EmbeddedPostgres
from tests.support.postgres_world import postgres_world


class OnPostgres:
    @pytest.fixture(autouse=True)
    def _server(self, postgres: EmbeddedPostgres) -> None:
        self.server = postgres

    def world(self) -> AbstractAsyncContextManager[World[Any]]:
        return postgres_world(self.server)


class TestPostgresHandler(OnPostgres, HandlerContract[Any]):
    pass


class TestPostgresBackup(OnPostgres, BackupContract[Any]):
    pass
