"""What a run with nothing to do loads: each start of an application has one, and imports are most of its cost."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.support.servers import Database, only_newest

_MIGRATE = """
import asyncio, json, sys
from msr_async import BackupMode, Config, MigrationScriptExecutor, RollbackStrategy
from msr_async.postgres import PostgresHandler

async def main(dsn, folder):
    config = Config(folder=folder, rollback_strategy=RollbackStrategy.NONE, backup_mode=BackupMode.MANUAL)
    async with PostgresHandler(dsn) as handler:
        return await MigrationScriptExecutor(handler, config).migrate()

executed = len(asyncio.run(main(*sys.argv[1:])).executed)
print(json.dumps({"executed": executed, "modules": sorted(sys.modules)}))
"""
_LOADED = """
batching config errors events executor framing models observers observers.log observers.wording protocols shielding
_engine _engine.checksums _engine.comparing _engine.directives _engine.emitting _engine.finding _engine.intending
_engine.loading _engine.parsing _engine.planning _engine.surveying _engine.validating
postgres postgres.asking postgres.connecting postgres.driver postgres.handler postgres.quoting postgres.schema_version
postgres.session postgres.translating postgres.units postgres.watching
"""


def migrate(dsn: str, folder: Path) -> tuple[int, set[str]]:
    """In a fresh process: how many migrations were run, and which modules are loaded at its end."""
    command = [sys.executable, "-c", _MIGRATE, dsn, str(folder)]
    told = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return told["executed"], set(told["modules"])


@only_newest
def test_it_loads_what_reads_files_and_history_and_no_more(database: Database, tmp_path: Path) -> None:
    (tmp_path / "V202601010001_shop.up.sql").write_text("CREATE TABLE shop (id int)")
    (tmp_path / "V202601010002_fill.py").write_text("async def up(db, ctx):\n    pass\n")
    assert migrate(database.dsn, tmp_path)[0] == 2
    executed, modules = migrate(database.dsn, tmp_path)
    assert executed == 0
    ours = {name.partition(".")[2] for name in modules if name.startswith("msr_async.")}
    assert ours == set(_LOADED.split())
    assert {"anyio", "zstandard", "tarfile"}.isdisjoint(modules)
