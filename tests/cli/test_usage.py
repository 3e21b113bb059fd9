"""The command line without a database: usage, settings, sentences instead of tracebacks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.command import Command, environment

SECRET = "s3cr3t-canary"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), ["backup", "demo", "migrate", "status"]),
        (("--help",), ["backup", "demo", "migrate", "status", "Exit codes"]),
        (("--help",), ["new", "plan", "down", "validate", "baseline", "repair", "lock"]),
        (("lock",), ["status", "release"]),
        (("down", "--help"), ["TARGET", "--yes", "--dry-run", "--strategy", "--ddl-lock-timeout"]),
        (("backup",), ["create", "restore", "list", "inspect", "verify"]),
        (("migrate", "--help"), ["--strategy", "--mode", "--keep-backup", "--lock-timeout", "--tag", "--database-url"]),
        (("backup", "create", "--help"), ["--include", "--exclude", "--compression-level", "--output-file", "--jobs"]),
        (("backup", "restore", "--help"), ["PATH", "--confirm-target", "--no-owner", "--no-privileges"]),
    ],
    ids=" ".join,
)
def test_help_names_what_there_is(cli: Command, arguments: tuple[str, ...], words: list[str]) -> None:
    done = cli(*arguments)
    assert done.code == 0
    assert [word for word in words if word not in done.out] == []
    assert done.err == ""


def test_help_does_not_show_the_database_url_of_the_environment(cli: Command) -> None:
    done = cli("status", "--help", env={"DATABASE_URL": f"postgresql://u:{SECRET}@h/x"})
    assert "DATABASE_URL" in done.out
    assert SECRET not in done.out + done.err


def test_help_loads_no_driver(cli: Command) -> None:
    check = "import atexit\natexit.register(lambda: print(sorted({'asyncpg', 'google', 'grpc'} & sys.modules.keys())))"
    done = cli.script(check, "--help")
    assert done.code == 0
    assert done.out.endswith("[]\n")


def test_version_is_one_line(cli: Command) -> None:
    done = cli("--version")
    assert (done.code, done.out.count("\n")) == (0, 1)


@pytest.mark.parametrize("module", ["cyclopts", "rich"])
def test_without_the_extra_one_sentence_says_what_to_install(cli: Command, module: str) -> None:
    done = cli.script(f"sys.modules[{module!r}] = None", "status")
    assert done.code == 1
    assert done.err == f'The command line needs {module}: pip install "msr_async[cli]".\n'


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("migrat",), "migrat"),
        (("migrate", "--strateg", "backup"), "--strateg"),
        (("migrate", "--strategy", "hope"), "hope"),
        (("migrate", "--mode", "half"), "half"),
        (("migrate", "--jobs", "many"), "--jobs"),
        (("migrate", "--jobs", "0"), "--jobs is 0"),
        (("migrate", "--lock-timeout", "-1"), "--lock-timeout is -1"),
        (("migrate", "--ddl-lock-timeout", "-1"), "--ddl-lock-timeout is -1"),
        (("migrate", "--statement-timeout", "nan"), "--statement-timeout is nan"),
        (("down", "0", "--yes", "--retries", "-1"), "--retries is -1"),
        (("migrate", "--isolation", "chaos"), "chaos"),
        (("migrate", "--transaction", "some"), "some"),
        (("plan", "--out-of-order", "maybe"), "maybe"),
        (("validate", "--drift", "maybe"), "maybe"),
        (("plan", "--drift", "error"), "--drift"),
        (("down", "0", "--yes", "--missing-file", "warn"), "--missing-file"),
        (("migrate", "next"), "'next' is not a version"),
        (("plan", "--down"), "--down needs a target"),
        (("down",), "TARGET"),
        (("down", "0"), "Pass --yes"),
        (("down", "0_x", "--yes"), "Give 0 alone"),
        (("baseline",), "VERSION"),
        (("baseline", "-1"), "-1"),
        (("new",), "NAME"),
        (("new", "?!"), "no name for a migration"),
        (("lock", "steal"), "steal"),
        (("migrate", "--tag", "release"), "release"),
        (("migrate", "--backup", "b.msrbak", "--mode", "full"), "--backup"),
        (
            ("status", "--migrations", "no", "--database-url", "postgresql://h/x"),
            "or set --migrations to where they are",
        ),
        (("status", "surplus"), "surplus"),
        (("backup", "create", "--compression-level", "99"), "compression_level"),
        (("backup", "verify", "--level", "deep"), "deep"),
        (("backup", "list", "--format", "xml"), "xml"),
        (("status",), "DATABASE_URL"),
        (("status", "--database-url", ""), "DATABASE_URL"),
        (("status", "--database-url", "nonsense"), "postgresql://"),
        (("status", "--database-url", "mysql://h/x"), "mysql"),
        (("demo", "--rows", "3"), "--rows"),
    ],
    ids=" ".join,
)
def test_what_cannot_be_used_is_refused_in_a_sentence(cli: Command, arguments: tuple[str, ...], words: str) -> None:
    done = cli(*arguments)
    assert done.code == 2
    assert done.out == ""
    assert done.err.startswith("error: ")
    assert words in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize(
    "arguments", [("migrate", "--bogus"), ("status",), ("backup", "create", "--jobs", "0")], ids=" ".join
)
def test_behaviour_43_usage_errors_are_one_document_in_json(cli: Command, arguments: tuple[str, ...]) -> None:
    done = cli(*arguments, "--format", "json")
    assert done.code == 2
    assert done.document.keys() == {"error"}
    assert done.error["exit_code"] == 2
    assert done.error["message"]
    assert done.error["hint"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("status", "--database-url", f"postgresql//user:{SECRET}@host/x"),
        ("status", "--database-url", f"mysql://user:{SECRET}@host/x"),
        ("status", f"postgresql://user:{SECRET}@host/x"),
        ("status", "--debug", "--database-url", f"postgresql://user:{SECRET}@127.0.0.1:1/x"),
        ("status", "--database-url", f"postgresql://user:{SECRET}@127.0.0.1:notaport/x"),
    ],
)
@pytest.mark.parametrize("form", ["table", "json"])
def test_no_error_repeats_the_password(cli: Command, arguments: tuple[str, ...], form: str) -> None:
    cli.write("V202601010900_one.up.sql", "SELECT 1;")
    done = cli(*arguments, "--format", form)
    assert done.code in (2, 7)
    assert SECRET not in done.out + done.err


def test_a_flag_wins_over_the_msr_variable_and_this_over_the_common_one(cli: Command) -> None:
    common, ours = {"DATABASE_URL": "common://h/x"}, {"MSR_DATABASE_URL": "ours://h/x"}
    assert "common://" in cli("status", env=common).err
    assert "ours://" in cli("status", env=common | ours).err
    assert "flag://" in cli("status", "--database-url", "flag://h/x", env=common | ours).err


def test_an_unexpected_error_is_a_sentence_and_with_debug_a_traceback(cli: Command) -> None:
    breaking = (
        "import msr_async._engine.listing as listing\n"
        f"async def backups(*a, **k): raise ValueError('boom postgresql://u:{SECRET}@h/x')\n"
        "listing.backups = backups"
    )
    plain = cli.script(breaking, "backup", "list", "--format", "json")
    assert plain.code == 1
    assert "ValueError: boom" in plain.error["message"]
    assert "--debug" in plain.error["hint"]
    assert "Traceback" not in plain.err
    debug = cli.script(breaking, "backup", "list", "--debug")
    assert debug.code == 1
    assert "Traceback" in debug.err
    assert SECRET not in plain.out + plain.err + debug.err


def test_an_empty_or_missing_folder_lists_no_backups(cli: Command) -> None:
    done = cli("backup", "list", "--backups", "nowhere")
    assert (done.code, done.out) == (0, "No backups in nowhere.\n")
    assert cli("backup", "list", "--format", "json").document == {"backups": []}


def test_what_is_not_a_backup_is_left_out_of_the_list_with_a_warning(cli: Command) -> None:
    folder = cli.folder / "elsewhere"
    folder.mkdir()
    (folder / "notes.msrbak").write_text("not a backup")
    loud = cli("backup", "list", "--backups", "elsewhere", "--format", "json")
    assert (loud.code, loud.document) == (0, {"backups": []})
    assert "notes.msrbak" in loud.err
    quiet = cli("backup", "list", "--backups", "elsewhere", "--quiet")
    assert (quiet.code, quiet.err) == (0, "")


@pytest.mark.parametrize("command", ["verify", "inspect"])
def test_a_file_that_is_not_a_backup_is_refused_with_10(cli: Command, command: str) -> None:
    (cli.folder / "notes.txt").write_text("not a backup at all")
    done = cli("backup", command, "notes.txt")
    assert (done.code, done.out) == (10, "")
    assert "notes.txt" in done.err


@pytest.mark.parametrize(("command", "code"), [("verify", 10), ("inspect", 1)])
@pytest.mark.parametrize("path", [(), ("missing.msrbak",)], ids=["newest", "named"])
def test_a_missing_backup_is_a_sentence(cli: Command, command: str, code: int, path: tuple[str, ...]) -> None:
    done = cli("backup", command, *path)
    assert done.code == code
    assert done.err.startswith("error: ")


@pytest.mark.parametrize("arguments", ["--help", "--version", "backup list", "backup list --format json"])
def test_a_reader_that_leaves_early_is_no_drama(tmp_path: Path, arguments: str) -> None:
    # `true` has ended long before Python is up, so the very first write meets a closed pipe.
    command = f"{sys.executable} -m msr_async {arguments} | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, env=environment(), capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, "")


NO_UTF8 = os.fsdecode(b"x=\xff")


@pytest.mark.parametrize(
    "arguments",
    [
        ("backup", "create", "--tag", NO_UTF8),
        ("backup", "create", "--include", NO_UTF8),
        ("migrate", "--environment", NO_UTF8),
        ("migrate", NO_UTF8),
        ("status", "--database-url", f"postgresql://me:secret@h/{NO_UTF8}"),
        ("new", NO_UTF8),
    ],
    ids=lambda item: " ".join(item[:-1]),
)
def test_text_that_is_no_utf8_is_refused(cli: Command, arguments: tuple[str, ...]) -> None:
    done = cli(*arguments, "--format", "json", env={"PYTHONUTF8": "1"})
    assert (done.code, done.error["type"]) == (2, "UsageError")
    assert "is not UTF-8" in done.error["message"]
    assert "secret" not in done.out + done.err


def test_a_path_need_not_be_utf8(cli: Command) -> None:
    folder = os.fsdecode(b"m\xff")
    for format in ("json", "table"):
        made = cli("new", "x", "--no-down", "--migrations", f"{folder}/{format}", "--format", format)
        assert made.code == 0, made.err
        assert "m\\udcff/" in made.out
    assert len(list((cli.folder / folder).rglob("*.sql"))) == 2
    assert cli("backup", "list", "--backups", folder, "--format", "json").document == {"backups": []}


def _redirected(folder: Path, arguments: str, where: str) -> subprocess.CompletedProcess[str]:
    command = f"exec {sys.executable} -m msr_async {arguments} {where}"
    return subprocess.run(["bash", "-c", command], cwd=folder, env=environment(), capture_output=True, text=True)


@pytest.mark.parametrize("arguments", ["--help", "--version", "backup list", "backup list --format json"])
@pytest.mark.parametrize(
    ("where", "why"),
    [(">/dev/full", "No space left on device"), (">&-", "Bad file descriptor")],
    ids=["full", "closed"],
)
def test_a_result_that_cannot_be_written_is_a_sentence(tmp_path: Path, arguments: str, where: str, why: str) -> None:
    done = _redirected(tmp_path, arguments, where)
    only = "" if arguments.startswith("--") else "The command is done, and only its result is lost. "
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"error: {only}Standard output cannot be written: {why}.\n"


@pytest.mark.parametrize("where", ["2>/dev/full", "2>&-", "<&- 2>&-"])
def test_messages_that_cannot_be_written_change_nothing(tmp_path: Path, where: str) -> None:
    (tmp_path / "backups").mkdir()
    (tmp_path / "backups" / "x.msrbak").write_text("not a backup")  # a warning
    done = _redirected(tmp_path, "backup list --format json", where)
    assert (done.returncode, json.loads(done.stdout), done.stderr) == (0, {"backups": []}, "")
    refused = _redirected(tmp_path, "status --format json", where)
    assert (refused.returncode, json.loads(refused.stdout)["error"]["exit_code"]) == (2, 2)


def test_an_errors_own_code_stays_where_its_document_is_lost(tmp_path: Path) -> None:
    done = _redirected(tmp_path, "status --format json", ">/dev/full")
    assert done.returncode == 2
    assert "No database was named" in done.stderr
    assert _redirected(tmp_path, "status --format json", ">&- 2>&-").returncode == 2


def test_the_demo_without_a_server_says_what_to_install(cli: Command) -> None:
    done = cli.script("import msr_async.testing.programs as p\np.find_postgres = lambda version: None", "demo")
    assert done.code == 1
    assert 'pip install "msr_async[embedded]"' in done.err
    assert "Traceback" not in done.err


def test_a_new_migration_is_written_without_a_database(cli: Command) -> None:
    made = cli("new", "Add the orders", "--format", "json")
    assert (made.code, made.err) == (0, "")
    up, down = (cli.folder / path for path in made.document["paths"])
    assert up.name.endswith("_add_the_orders.up.sql")
    assert down.name == up.name.replace(".up.", ".down.")
    assert up.exists()
    assert down.exists()
    (again,) = cli("new", "more", "--no-down", "--migrations", "elsewhere").out.splitlines()
    assert again.startswith("elsewhere/V")
    assert [path.name for path in (cli.folder / "elsewhere").iterdir()] == [Path(again).name]


def test_a_folder_that_cannot_be_made_is_a_sentence(cli: Command) -> None:
    (cli.folder / "file").write_text("")
    done = cli("new", "x", "--migrations", "file/migrations")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("error: file/migrations cannot be made")
