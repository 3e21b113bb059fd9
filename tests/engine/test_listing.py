"""Which backups a folder holds."""

from __future__ import annotations

from pathlib import Path

import pytest

from msr_async._engine.emitting import Emitter
from msr_async._engine.listing import backups
from msr_async.errors import StorageError
from msr_async.events import Event, Warned
from msr_async.storage import LocalStorage
from tests.support.fake_backup import FakeBackup, make, shop


async def test_a_folder_that_does_not_exist_holds_none(tmp_path: Path) -> None:
    assert await backups(LocalStorage(tmp_path / "none")) == []


async def test_the_newest_comes_first_whatever_the_files_are_called_and_when_they_were_touched(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    made = [await make(FakeBackup(shop(rows=3)), storage, name) for name in ("c.bak", "a.bak", "b.bak")]
    made[0].path.touch()
    found = await backups(storage)
    assert [info.path.name for info in found] == ["b.bak", "a.bak", "c.bak"]
    assert [info.id for info in found] == [info.id for info in reversed(made)]
    assert found[0].tags == {"release": "1.2"}
    assert found[0].duration is None
    assert found[0].size == made[2].size


async def test_other_files_and_damaged_ones_are_left_out_with_a_warning_each(tmp_path: Path) -> None:
    storage, events = LocalStorage(tmp_path), list[Event]()
    good = await make(FakeBackup(shop(rows=3)), storage, "good.bak")
    cut = await make(FakeBackup(shop(rows=3)), storage, "cut.bak")
    cut.path.write_bytes(cut.path.read_bytes()[:-1])
    (tmp_path / "notes.txt").write_text("to do")
    (tmp_path / "half.bak.partial").write_text("half")
    (tmp_path / ".hidden").write_text("x")
    (tmp_path / "folder").mkdir()
    found = await backups(storage, Emitter([events.append]))
    assert [info.id for info in found] == [good.id]
    messages = sorted(event.message for event in events if isinstance(event, Warned))
    assert len(messages) == 2
    assert "cut.bak" in messages[0]
    assert "notes.txt" in messages[1]


async def test_a_path_that_is_no_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match="Cannot list"):
        await backups(LocalStorage(tmp_path / "file"))
