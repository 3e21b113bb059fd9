"""What a folder of migrations is read as, and what is said about the files that do not fit."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from msr_async import ConfigError, Issue
from msr_async._engine.loading import checksum, load

UP = "async def up(db, ctx):\n    pass\n"
BOTH = UP + "async def down(db, ctx):\n    pass\n"


def write(folder: Path, name: str, content: str | bytes = UP) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def codes(issues: tuple[Issue, ...]) -> list[tuple[str, str, str]]:
    return [(issue.code, issue.severity, issue.path.name if issue.path else "") for issue in issues]


async def test_files_of_all_kinds_are_read_in_version_order_over_sub_folders(tmp_path: Path) -> None:
    write(tmp_path, "z/V202601010001_first.py", BOTH)
    write(tmp_path, "V202601010003_third.up.sql", "select 3;")
    write(tmp_path, "a/deep/V202601010002_second.up.sql", "select 2;")
    write(tmp_path, "a/deep/V202601010002_second.down.sql", "select -2;")
    migrations, issues = await load(tmp_path)
    assert issues == ()
    assert [str(migration) for migration in migrations] == [
        "V202601010001_first",
        "V202601010002_second",
        "V202601010003_third",
    ]
    first, second, third = migrations
    assert first.down == first.up
    assert first.up.language == "py"
    assert second.down is not None
    assert (second.up.text, second.down.text, second.up.language) == ("select 2;", "select -2;", "sql")
    assert third.down is None


async def test_the_down_in_another_folder_belongs_to_its_up(tmp_path: Path) -> None:
    write(tmp_path, "up/V202601010001_x.up.sql", "select 1;")
    write(tmp_path, "down/V202601010001_x.down.sql", "select 2;")
    (migration,), issues = await load(tmp_path)
    assert issues == ()
    assert migration.down is not None
    assert migration.down.text == "select 2;"


async def test_a_python_file_without_down_has_none(tmp_path: Path) -> None:
    write(tmp_path, "V202601010001_x.py", UP)
    (migration,), _ = await load(tmp_path)
    assert migration.down is None


async def test_a_python_file_is_not_imported(tmp_path: Path) -> None:
    write(tmp_path, "V202601010001_x.py", f"open({str(tmp_path / 'ran')!r}, 'w')\n{UP}")
    await load(tmp_path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "name",
    [
        "V123_x.up.sql",
        "V20260101000_eleven.py",
        "V202601010000000_fifteen.py",
        "V202601010001_x.sql",
        "v202601010001_x.up.sql",
        "V202601010001_x.UP.SQL",
        "V202601010001.up.sql",
        "V202601010001_.up.sql",
        "V_202601010001_x.py",
        "V202601010001-x.py",
    ],
)
async def test_a_misnamed_migration_is_an_error(tmp_path: Path, name: str) -> None:
    write(tmp_path, name)
    migrations, issues = await load(tmp_path)
    assert migrations == ()
    assert codes(issues) == [("misnamed", "error", name)]


@pytest.mark.parametrize("name", ["seed.sql", "R__view.sql", "V202601010001_x.up.sql.orig", "V202601010001_x.py.txt"])
async def test_a_file_that_might_be_meant_as_one_gets_a_warning(tmp_path: Path, name: str) -> None:
    write(tmp_path, name)
    migrations, issues = await load(tmp_path)
    assert migrations == ()
    assert codes(issues) == [("not-a-migration", "warning", name)]


@pytest.mark.parametrize(
    "name", [".V1.py", ".hidden/V202601010001_x.py", "__pycache__/V202601010001_x.py", "README.md", "common.py"]
)
async def test_hidden_files_caches_and_plain_other_files_are_left_alone(tmp_path: Path, name: str) -> None:
    write(tmp_path, name)
    assert await load(tmp_path) == ((), ())


async def test_a_down_without_an_up_is_an_error(tmp_path: Path) -> None:
    write(tmp_path, "V202601010001_x.up.sql", "select 1;")
    write(tmp_path, "V202601010001_y.down.sql", "select 2;")
    (migration,), issues = await load(tmp_path)
    assert migration.down is None
    assert codes(issues) == [("down-without-up", "error", "V202601010001_y.down.sql")]


async def test_a_missing_folder_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        await load(tmp_path / "nowhere")


async def test_a_file_in_place_of_the_folder_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is not a folder"):
        await load(write(tmp_path, "file"))


async def test_a_file_that_is_not_utf8_is_an_error_with_its_path(tmp_path: Path) -> None:
    path = write(tmp_path, "V202601010001_x.up.sql", "select 'é';".encode("latin-1"))
    migrations, issues = await load(tmp_path)
    assert migrations == ()
    assert codes(issues) == [("not-utf8", "error", path.name)]
    assert str(issues[0]).startswith(f"{path}: ")


async def test_a_file_with_a_nul_is_an_error(tmp_path: Path) -> None:
    write(tmp_path, "V202601010001_x.up.sql", b"select 1;\0")
    _, issues = await load(tmp_path)
    assert [issue.code for issue in issues] == ["not-text"]


async def test_a_file_that_cannot_be_read_is_an_error_with_its_path(tmp_path: Path) -> None:
    (tmp_path / "V202601010001_x.up.sql").symlink_to(tmp_path / "gone")
    _, issues = await load(tmp_path)
    assert codes(issues) == [("unreadable", "error", "V202601010001_x.up.sql")]


async def test_a_linked_folder_is_read_and_a_circle_of_links_ends(tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "migrations", tmp_path / "elsewhere"
    write(elsewhere, "V202601010001_x.py")
    folder.mkdir()
    (folder / "linked").symlink_to(elsewhere)
    (elsewhere / "back").symlink_to(folder)
    migrations, issues = await load(folder)
    assert issues == ()
    assert [str(migration) for migration in migrations] == ["V202601010001_x"]


async def test_a_byte_order_mark_is_not_part_of_the_text(tmp_path: Path) -> None:
    write(tmp_path, "V202601010001_x.up.sql", b"\xef\xbb\xbfselect 1;")
    (migration,), _ = await load(tmp_path)
    assert migration.up.text == "select 1;"
    assert migration.checksum == checksum("select 1;")


def test_line_endings_and_a_mark_do_not_change_the_checksum_and_anything_else_does() -> None:
    assert len({checksum(text) for text in ("a\nb\n", "a\r\nb\r\n", "a\rb\r", "\ufeffa\nb\n")}) == 1
    assert checksum("a\nb") != checksum("a\nb\n")
    assert checksum("a b") != checksum("a  b")


async def test_two_files_of_one_version_are_both_kept_for_the_plan_to_refuse(tmp_path: Path) -> None:
    write(tmp_path, "a/V202601010001_x.up.sql", "select 1;")
    write(tmp_path, "b/V202601010001_x.up.sql", "select 2;")
    write(tmp_path, "b/V202601010001_x.down.sql", "select 3;")
    migrations, issues = await load(tmp_path)
    assert issues == ()
    assert [os.path.basename(migration.up.path.parent) for migration in migrations] == ["a", "b"]
    assert [migration.down is not None for migration in migrations] == [False, True]
