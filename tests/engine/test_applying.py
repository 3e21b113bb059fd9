"""How a Python migration becomes a module, and what its errors become."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from msr_async import DownFailed, Event, Migration, ScriptFailed
from msr_async._engine.applying import apply, undo, whoami
from msr_async._engine.loading import load
from msr_async.events import MigrationErred, MigrationFinished, MigrationStarted
from msr_async.testing import MemoryHandler


async def run(folder: Path, handler: MemoryHandler, *texts: str) -> tuple[list[Migration], list[Event]]:
    for number, text in enumerate(texts, 1):
        (folder / f"V20260101000{number}_step{number}.py").write_text(text)
    migrations, issues = await load(folder)
    assert issues == ()
    done: list[Migration] = []
    heard: list[Event] = []
    await handler.schema_version.ensure()
    await apply(handler, migrations, heard.append, done.append, by="me@here")
    return done, heard


async def test_the_module_is_whole_while_it_runs_and_gone_afterwards(tmp_path: Path) -> None:
    text = """
from __future__ import annotations
import sys
from dataclasses import dataclass, field
from typing import ClassVar

@dataclass
class Row:
    kind: ClassVar[str] = "row"
    name: str = field(default="a")

async def up(db, ctx):
    assert sys.modules[__name__].Row is Row
    assert __file__.endswith("step1.py")
    await db.put("t", Row().name, f"{ctx.version} {ctx.name} {ctx.handler.name}")
"""
    async with MemoryHandler("shop") as handler:
        await run(tmp_path, handler, text)
        assert await handler.db.rows("t") == {"a": "202601010001 step1 shop"}
    assert not [name for name in sys.modules if name.startswith("_msr_async_migration")]


async def test_up_and_down_each_get_a_fresh_module(tmp_path: Path) -> None:
    text = """
seen = []
async def up(db, ctx):
    seen.append(1)
    await db.put("t", "up", len(seen))
async def down(db, ctx):
    seen.append(1)
    await db.put("t", "down", len(seen))
"""
    async with MemoryHandler() as handler:
        done, _ = await run(tmp_path, handler, text)
        await undo(handler, done, lambda event: None, lambda migration: None)
        assert await handler.db.rows("t") == {"up": 1, "down": 1}
        assert await handler.schema_version.applied() == []


async def test_the_text_that_was_checked_is_what_runs(tmp_path: Path) -> None:
    path = tmp_path / "V202601010001_x.py"
    path.write_text("async def up(db, ctx):\n    await db.put('t', 'a', 1)\n")
    migrations, _ = await load(tmp_path)
    path.write_text("async def up(db, ctx):\n    await db.put('t', 'a', 2)\n")
    async with MemoryHandler() as handler:
        await handler.schema_version.ensure()
        await apply(handler, migrations, lambda event: None, lambda migration: None, by="me")
        assert await handler.db.rows("t") == {"a": 1}


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("import nowhere_at_all\nasync def up(db, ctx): ...", 1, "ModuleNotFoundError: No module named"),
        ("async def up(db, ctx):\n    return 1 / 0", 2, "ZeroDivisionError: division by zero"),
        ("async def up(db, ctx):\n    await db.drop('none')", 2, "DatabaseError: There is no table none."),
        ("async def up(db, ctx):\n    helper()\ndef helper():\n    raise KeyError('k')", 4, "KeyError: 'k'"),
        ("async def up(db, ctx):\n    raise ValueError", 2, "ValueError"),
        ("async def up(db, ctx):\n    raise SystemExit(3)", 2, "SystemExit: 3"),
        ("async def up(db, ctx):\n    pass\nreturn", 3, "SyntaxError: 'return' outside function"),
    ],
)
async def test_an_error_tells_its_place_in_the_file(tmp_path: Path, text: str, line: int, message: str) -> None:
    async with MemoryHandler() as handler:
        with pytest.raises(ScriptFailed, match=re.escape(message)) as raised:
            await run(tmp_path, handler, text)
        assert raised.value.line == line
        assert raised.value.path == tmp_path / "V202601010001_step1.py"
        assert raised.value.__cause__ is not None
        assert await handler.schema_version.applied() == []
    assert not [name for name in sys.modules if name.startswith("_msr_async_migration")]


async def test_the_first_failure_ends_it_and_what_was_done_is_known(tmp_path: Path) -> None:
    good = "async def up(db, ctx): ..."
    done: list[Migration] = []
    heard: list[Event] = []
    for number, text in enumerate([good, "async def up(db, ctx): raise OSError('no')", good], 1):
        (tmp_path / f"V20260101000{number}_step{number}.py").write_text(text)
    migrations, _ = await load(tmp_path)
    async with MemoryHandler() as handler:
        await handler.schema_version.ensure()
        with pytest.raises(ScriptFailed, match="no"):
            await apply(handler, migrations, heard.append, done.append, by="me")
    assert [migration.name for migration in done] == ["step1"]
    assert [type(event) for event in heard] == [MigrationStarted, MigrationFinished, MigrationStarted, MigrationErred]


async def test_a_failing_down_names_its_migration(tmp_path: Path) -> None:
    text = "async def up(db, ctx): ...\nasync def down(db, ctx): raise OSError('no')"
    async with MemoryHandler() as handler:
        done, _ = await run(tmp_path, handler, text)
        with pytest.raises(DownFailed, match="down of V202601010001_step1 failed") as raised:
            await undo(handler, done, lambda event: None, lambda migration: None)
        assert raised.value.migration == done[0]
        assert [entry.version for entry in await handler.schema_version.applied()] == [202601010001]


async def test_a_sql_script_is_handed_to_the_handler(tmp_path: Path) -> None:
    (tmp_path / "V202601010001_x.up.sql").write_text("select 1;")
    migrations, _ = await load(tmp_path)
    async with MemoryHandler() as handler:
        with pytest.raises(ScriptFailed, match="has no SQL"):
            await apply(handler, migrations, lambda event: None, lambda migration: None, by="me")


def test_whoever_runs_it_is_a_user_at_a_host() -> None:
    assert re.fullmatch(r"[^@]+@.+", whoami())


def test_a_user_without_a_name_is_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.getuid", lambda: 123_456_789)
    assert whoami().startswith("123456789@")
