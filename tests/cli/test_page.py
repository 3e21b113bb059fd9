"""The page about the command line names every flag and every exit code, and none that does not exist."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

from msr_async.cli.documents import (
    of_baseline,
    of_lock,
    of_new,
    of_plan,
    of_release,
    of_repair,
    of_result,
    of_steps,
)
from msr_async.cli.exits import Exit
from msr_async.cli.plans import Step
from msr_async.models import (
    AppliedMigration,
    Issue,
    LockInfo,
    Migration,
    MigrationResult,
    Plan,
    RepairResult,
    Script,
    UnfinishedRestore,
)
from tests.cli.command import Command

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "command-line.md").read_text()
BACKUP = ["create", "restore", "list", "inspect", "verify", "export", "import"]
ENGINE = ["new", "plan", "migrate", "down", "status", "validate", "baseline", "repair", "lock status", "lock release"]
COMMANDS = ["demo", *ENGINE, *(f"backup {name}" for name in BACKUP)]

SCRIPT = Script(path=Path("V1_x.up.sql"), text="", language="sql")
MIGRATION = Migration(version=1, name="x", up=SCRIPT, down=None, checksum="")
LINE = AppliedMigration(
    version=1, name="x", checksum="", applied_at=datetime(2026, 1, 1, tzinfo=UTC), duration=0.0, applied_by=""
)
ISSUE = Issue(code="x", severity="error", message="")


def flags(text: str) -> set[str]:
    return set(re.findall(r"--[a-z][a-z-]+", text)) - {"--help"}


def test_the_page_has_the_flags_of_all_commands(cli: Command) -> None:
    help_texts = [cli(*command.split(), "--help").out for command in COMMANDS]
    options = {flag for text in help_texts for line in text.splitlines() for flag in flags(line[:24])}
    assert flags(PAGE) == options


def test_the_page_says_which_command_has_which_flag(cli: Command) -> None:
    rows = re.findall(r"^\| `(--[a-z-]+)[^`]*` \| ([^|]*) \| .*\|$", PAGE.replace("\\|", "/"), re.MULTILINE)
    said = {flag: set(re.findall(r"`(\w+)`", commands)) for flag, commands in rows if commands.startswith("`migrate`")}
    helps = {command: cli(command, "--help").out for command in ENGINE if " " not in command}
    shown = {
        command: {flag for line in text.splitlines() for flag in flags(line[:24])} for command, text in helps.items()
    }
    assert len(said) == 19
    assert said == {flag: {command for command, has in shown.items() if flag in has} for flag in said}


def keys(words: str) -> list[str]:
    (found,) = re.findall(rf"^\| {re.escape(words)}[^|]* \| ([^|:]*)", PAGE, re.MULTILINE)
    return re.findall(r"`(\w+)`", found)


def test_the_page_has_the_keys_of_the_documents() -> None:
    plan = Plan(pending=(MIGRATION,), applied=(LINE,), issues=(ISSUE,))
    document = of_plan(plan, "x")
    assert keys("`status`") == list(document)
    assert keys("a migration (") == list(document["pending"][0])
    assert sorted(keys("a line of the history")) == sorted(document["applied"][0])
    assert keys("an issue") == list(document["issues"][0])
    step = Step(migration=MIGRATION, path=None, transaction="own")
    assert keys("a step") == list(of_steps([step])["steps"][0])
    assert keys("`migrate`, `down`") == list(of_result(MigrationResult(success=True)))
    assert keys("`new`") == list(of_new([]))
    assert keys("`baseline`") == list(of_baseline([], "x"))
    assert keys("`repair`") == list(of_repair(RepairResult(), "x"))
    assert keys("`lock status`") == list(of_lock(None, "x"))
    assert keys("`lock release`") == list(of_release(None, "x"))
    left = UnfinishedRestore(backup="x", mode="replace", holder="x")
    assert keys("an unfinished restore") == list(of_release(None, "x", given_up=left)["given_up"])
    assert keys("a holder") == list(of_lock(LockInfo(holder="x"), "x")["holder"])


def test_the_page_has_the_exit_codes() -> None:
    assert [int(code) for code in re.findall(r"^\| (\d+) \|", PAGE, re.MULTILINE)] == [int(code) for code in Exit]
