"""The page about the command line names every flag and every exit code, and none that does not exist."""

from __future__ import annotations

import re
from pathlib import Path

from msr_async.cli.exits import Exit
from tests.cli.command import Command

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "command-line.md").read_text()
BACKUP = ["create", "restore", "list", "inspect", "verify"]
COMMANDS = ["demo", "migrate", "status", *(f"backup {name}" for name in BACKUP)]


def flags(text: str) -> set[str]:
    return set(re.findall(r"--[a-z][a-z-]+", text)) - {"--help"}


def test_the_page_has_the_flags_of_all_commands(cli: Command) -> None:
    help_texts = [cli(*command.split(), "--help").out for command in COMMANDS]
    options = {flag for text in help_texts for line in text.splitlines() for flag in flags(line[:24])}
    assert flags(PAGE) == options


def test_the_page_has_the_exit_codes() -> None:
    assert [int(code) for code in re.findall(r"^\| (\d+) \|", PAGE, re.MULTILINE)] == [int(code) for code in Exit]
