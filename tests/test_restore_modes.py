"""A database that can only replace says so to every other mode, before anything of it is touched."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from msr_async import Config, ConfigError, MigrationScriptExecutor
from msr_async.config import BackupConfig
from msr_async.postgres import PostgresHandler
from msr_async.testing import MemoryHandler
from tests.support.servers import Database, only_newest

OTHERS = ("overwrite", "merge", "create", "everything")


def config(tmp_path: Path) -> Config:
    return Config(folder=tmp_path, backup=BackupConfig(folder=tmp_path / "backups"))


@pytest.mark.parametrize("mode", OTHERS)
async def test_memory_knows_replace_only(tmp_path: Path, mode: Any) -> None:
    async with MemoryHandler() as handler:
        await handler.db.put("t", "a", 1)
        executor = MigrationScriptExecutor(handler, config(tmp_path))
        backup = await executor.create_backup()
        await handler.db.put("t", "b", 2)
        with pytest.raises(ConfigError, match=f"no restore in the mode {mode}"):
            await executor.restore_from_backup(backup, confirm_target=(await handler.describe()).label, mode=mode)
        assert await handler.db.rows("t") == {"a": 1, "b": 2}
        await executor.restore_from_backup(backup, mode="replace")
        assert await handler.db.rows("t") == {"a": 1}


@only_newest
async def test_postgresql_knows_replace_only(database: Database, tmp_path: Path) -> None:
    database.sql("CREATE TABLE t (a int); INSERT INTO t VALUES (1)")
    async with PostgresHandler(database.dsn) as handler:
        executor = MigrationScriptExecutor(handler, config(tmp_path))
        backup = await executor.create_backup()
        database.sql("INSERT INTO t VALUES (2)")
        for mode in OTHERS:
            with pytest.raises(ConfigError, match=f"PostgreSQL has no restore in the mode {mode}"):
                await executor.restore_from_backup(backup, mode=mode)  # type: ignore[arg-type]
        assert await handler.db.fetchval("SELECT count(*) FROM t") == 2
        await executor.restore_from_backup(backup, mode="replace")
        assert await handler.db.fetchval("SELECT count(*) FROM t") == 1
