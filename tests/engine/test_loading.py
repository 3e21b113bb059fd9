"""What a folder of migrations is read as, and what is said about the files that do not fit."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from msr_async import ConfigError, Issue
from msr_async._engine.checksums import checksum
from msr_async._engine.loading import Folder, load
from msr_async.models import NO_DIRECTIVES, Directives

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
    folder = await load(tmp_path)
    assert folder.issues == ()
    assert [str(migration) for migration in folder.migrations] == [
        "V202601010001_first",
        "V202601010002_second",
        "V202601010003_third",
    ]
    first, second, third = folder.migrations
    assert first.down == first.up
    assert first.up.language == "py"
    assert second.down is not None
    assert (second.up.text, second.down.text, second.up.language) == ("select 2;", "select -2;", "sql")
    assert third.down is None


async def test_the_down_in_another_folder_belongs_to_its_up(tmp_path: Path) -> None:
    write(tmp_path, "up/V202601010001_x.up.sql", "select 1;")
    write(tmp_path, "down/V202601010001_x.down.sql", "select 2;")
    folder = await load(tmp_path)
    (migration,) = folder.migrations
    assert folder.issues == ()
    assert migration.down is not None
    assert migration.down.text == "select 2;"


async def test_a_python_file_without_down_has_none(tmp_path: Path) -> None:
    write(tmp_path, "V202601010001_x.py", UP)
    (migration,) = (await load(tmp_path)).migrations
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
        "R__.sql",
        "r__view.sql",
        "R__view.SQL",
        "R__view.up.sql",
    ],
)
async def test_a_misnamed_migration_is_an_error(tmp_path: Path, name: str) -> None:
    write(tmp_path, name)
    folder = await load(tmp_path)
    assert folder.migrations == ()
    assert codes(folder.issues) == [("misnamed", "error", name)]


@pytest.mark.parametrize(
    "name", ["seed.sql", "before_migrate.up.sql", "V202601010001_x.up.sql.orig", "V202601010001_x.py.txt"]
)
async def test_a_file_that_might_be_meant_as_one_gets_a_warning(tmp_path: Path, name: str) -> None:
    write(tmp_path, name)
    folder = await load(tmp_path)
    assert folder.migrations == ()
    assert codes(folder.issues) == [("not-a-migration", "warning", name)]


@pytest.mark.parametrize(
    "name", [".V1.py", ".hidden/V202601010001_x.py", "__pycache__/V202601010001_x.py", "README.md", "common.py"]
)
async def test_hidden_files_caches_and_plain_other_files_are_left_alone(tmp_path: Path, name: str) -> None:
    write(tmp_path, name)
    assert await load(tmp_path) == Folder()


async def test_a_down_without_an_up_is_an_error(tmp_path: Path) -> None:
    write(tmp_path, "V202601010001_x.up.sql", "select 1;")
    write(tmp_path, "V202601010001_y.down.sql", "select 2;")
    folder = await load(tmp_path)
    (migration,) = folder.migrations
    assert migration.down is None
    assert codes(folder.issues) == [("down-without-up", "error", "V202601010001_y.down.sql")]


async def test_a_missing_folder_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        await load(tmp_path / "nowhere")


async def test_a_file_in_place_of_the_folder_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is not a folder"):
        await load(write(tmp_path, "file"))


async def test_a_file_whose_name_is_not_utf8_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path, os.fsdecode(b"V202601010001_\xff.up.sql"), b"select 1")
    folder = await load(tmp_path)
    assert folder.migrations == ()
    assert codes(folder.issues) == [("not-utf8", "error", path.name)]


async def test_a_file_that_is_not_utf8_is_an_error_with_its_path(tmp_path: Path) -> None:
    path = write(tmp_path, "V202601010001_x.up.sql", "select 'é';".encode("latin-1"))
    folder = await load(tmp_path)
    assert folder.migrations == ()
    assert codes(folder.issues) == [("not-utf8", "error", path.name)]
    assert str(folder.issues[0]).startswith(f"{path}: ")


async def test_a_file_with_a_nul_is_an_error(tmp_path: Path) -> None:
    write(tmp_path, "V202601010001_x.up.sql", b"select 1;\0")
    issues = (await load(tmp_path)).issues
    assert [issue.code for issue in issues] == ["not-text"]


async def test_a_file_that_cannot_be_read_is_an_error_with_its_path(tmp_path: Path) -> None:
    (tmp_path / "V202601010001_x.up.sql").symlink_to(tmp_path / "gone")
    issues = (await load(tmp_path)).issues
    assert codes(issues) == [("unreadable", "error", "V202601010001_x.up.sql")]


async def test_a_linked_folder_is_read_and_a_circle_of_links_ends(tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "migrations", tmp_path / "elsewhere"
    write(elsewhere, "V202601010001_x.py")
    folder.mkdir()
    (folder / "linked").symlink_to(elsewhere)
    (elsewhere / "back").symlink_to(folder)
    loaded = await load(folder)
    assert loaded.issues == ()
    assert [str(migration) for migration in loaded.migrations] == ["V202601010001_x"]


async def test_a_byte_order_mark_is_not_part_of_the_text(tmp_path: Path) -> None:
    write(tmp_path, "V202601010001_x.up.sql", b"\xef\xbb\xbfselect 1;")
    (migration,) = (await load(tmp_path)).migrations
    assert migration.up.text == "select 1;"
    assert migration.checksum == checksum("select 1;")


async def test_two_files_of_one_version_are_both_kept_for_the_plan_to_refuse(tmp_path: Path) -> None:
    write(tmp_path, "a/V202601010001_x.up.sql", "select 1;")
    write(tmp_path, "b/V202601010001_x.up.sql", "select 2;")
    write(tmp_path, "b/V202601010001_x.down.sql", "select 3;")
    folder = await load(tmp_path)
    assert folder.issues == ()
    assert [os.path.basename(migration.up.path.parent) for migration in folder.migrations] == ["a", "b"]
    assert [migration.down is not None for migration in folder.migrations] == [False, True]


async def test_ups_of_one_name_each_get_the_down_beside_them_and_another_gets_the_one_left(tmp_path: Path) -> None:
    write(tmp_path, "alone/V202601010001_x.up.sql")
    write(tmp_path, "left/V202601010001_x.down.sql")
    for name in ("b", "c"):
        write(tmp_path, f"{name}/V202601010001_x.up.sql")
        write(tmp_path, f"{name}/V202601010001_x.down.sql")
    folder = await load(tmp_path)
    assert folder.issues == ()
    assert [migration.down and migration.down.path.parent.name for migration in folder.migrations] == ["left", "b", "c"]


async def test_downs_in_other_folders_are_given_out_in_the_order_of_their_paths(tmp_path: Path) -> None:
    for name in ("u1", "u2"):
        write(tmp_path, f"{name}/V202601010001_x.up.sql")
    for name in ("d1", "d2"):
        write(tmp_path, f"{name}/V202601010001_x.down.sql")
    migrations = (await load(tmp_path)).migrations
    assert [migration.down and migration.down.path.parent.name for migration in migrations] == ["d1", "d2"]


async def test_a_pipe_named_like_a_migration_is_an_error_and_does_not_hold_the_run_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "V202601010001_x.up.sql")
    assert codes((await load(tmp_path)).issues) == [("unreadable", "error", "V202601010001_x.up.sql")]


async def test_a_link_to_itself_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "V202601010001_x.up.sql").symlink_to(tmp_path / "V202601010001_x.up.sql")
    assert codes((await load(tmp_path)).issues) == [("unreadable", "error", "V202601010001_x.up.sql")]


async def test_versions_of_different_lengths_are_a_warning(tmp_path: Path) -> None:
    write(tmp_path, "V202601010001_x.py")
    write(tmp_path, "V20260101000200_y.py")
    assert codes((await load(tmp_path)).issues) == [("mixed-digits", "warning", "V20260101000200_y.py")]


async def test_leading_zeros_count_as_digits(tmp_path: Path) -> None:
    write(tmp_path, "V000000000001_x.py")
    write(tmp_path, "V202601010001_y.py")
    folder = await load(tmp_path)
    assert folder.issues == ()
    assert [migration.version for migration in folder.migrations] == [1, 202601010001]


async def test_repeatable_scripts_come_after_the_versioned_ones_by_name(tmp_path: Path) -> None:
    write(tmp_path, "R__b.sql", "select 1;")
    write(tmp_path, "V202601010001_x.py")
    write(tmp_path, "z/R__a.py")
    folder = await load(tmp_path)
    assert folder.issues == ()
    assert [(str(item), item.kind, item.version, item.id) for item in folder.migrations] == [
        ("V202601010001_x", "versioned", 202601010001, "202601010001"),
        ("R__a", "repeatable", None, "R__a"),
        ("R__b", "repeatable", None, "R__b"),
    ]


async def test_hooks_stand_at_the_top(tmp_path: Path) -> None:
    write(tmp_path, "before_migrate.sql", "select 1;")
    write(tmp_path, "after_migrate.py")
    folder = await load(tmp_path)
    assert (folder.migrations, folder.issues) == ((), ())
    assert folder.before is not None
    assert folder.after is not None
    assert (str(folder.before), folder.before.kind, folder.before.up.text) == ("before_migrate", "hook", "select 1;")
    assert (str(folder.after), folder.after.kind, folder.after.up.language) == ("after_migrate", "hook", "py")


@pytest.mark.parametrize("name", ["deep/before_migrate.sql", "deep/after_migrate.py"])
async def test_a_hook_in_a_sub_folder_is_told_not_to_run(tmp_path: Path, name: str) -> None:
    path = write(tmp_path, name)
    folder = await load(tmp_path)
    assert (folder.before, folder.after) == (None, None)
    assert codes(folder.issues) == [("hook-not-at-top", "warning", path.name)]


async def test_one_hook_written_twice_is_an_error(tmp_path: Path) -> None:
    write(tmp_path, "before_migrate.sql")
    write(tmp_path, "before_migrate.py")
    issues = (await load(tmp_path)).issues
    assert [issue.code for issue in issues] == ["duplicate-hook"]
    assert "before_migrate.py and before_migrate.sql" in issues[0].message


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("R__view.down.sql", "repeatable-down"),
        ("R__view.down.py", "repeatable-down"),
        ("R__view.py", "repeatable-down"),
        ("before_migrate.py", "hook-down"),
    ],
)
async def test_a_way_down_where_there_is_none_is_an_error(tmp_path: Path, name: str, code: str) -> None:
    write(tmp_path, name, BOTH)
    folder = await load(tmp_path)
    assert codes(folder.issues) == [(code, "error", name)]
    assert [item.down for item in (*folder.migrations, folder.before) if item is not None] in ([], [None])


async def test_a_script_says_how_it_wants_to_run(tmp_path: Path) -> None:
    write(tmp_path, "V202601010001_x.up.sql", "-- msr: no-transaction\nvacuum;")
    write(tmp_path, "V202601010001_x.down.sql", "-- msr: lock-timeout=2s\nselect 1;")
    write(tmp_path, "V202601010002_y.py", f"lock_timeout = '1min'\n{BOTH}")
    write(tmp_path, "V202601010003_z.up.sql", "select 1;")
    one, two, three = (await load(tmp_path)).migrations
    assert one.down is not None
    assert one.up.directives == Directives(transaction=False)
    assert one.down.directives == Directives(lock_timeout=2.0)
    assert two.up.directives == Directives(lock_timeout=60.0)
    assert two.down == two.up
    assert three.up.directives is NO_DIRECTIVES


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("@batches(size=10)\nasync def data(db, ctx, batch): ...\n", True),
        ("@msr_async.batches()\nasync def data(db, ctx, batch): ...\n", True),
        ("@other\n@batches()\nasync def data(db, ctx, batch): ...\n", True),
        ("@batches\nasync def data(db, ctx, batch): ...\n", False),
        ("async def data(db, ctx, batch): ...\n", False),
        ("@batches()\ndef data(db, ctx, batch): ...\n", False),
        ("@batches()\nasync def other(db, ctx, batch): ...\n", False),
        ("class A:\n    @batches()\n    async def data(db, ctx, batch): ...\n", False),
    ],
)
async def test_a_data_step_in_batches_is_seen_without_running_the_file(
    tmp_path: Path, text: str, expected: bool
) -> None:
    write(tmp_path, "V202601010001_x.py", UP + text)
    (migration,) = (await load(tmp_path)).migrations
    assert migration.batched is expected


async def test_a_python_file_reformatted_keeps_its_checksum(tmp_path: Path) -> None:
    path = write(tmp_path, "V202601010001_x.py", UP)
    (before,) = (await load(tmp_path)).migrations
    path.write_text(f"# a word\n\n{UP}".replace("pass", "pass  # nothing"))
    (after,) = (await load(tmp_path)).migrations
    assert before.checksum == after.checksum


async def test_a_python_file_that_does_not_parse_is_known_by_its_text_and_may_have_a_down(tmp_path: Path) -> None:
    write(tmp_path, "V202601010001_x.py", "x = (")
    (migration,) = (await load(tmp_path)).migrations
    assert migration.checksum == checksum("x = (")
    assert migration.down == migration.up
