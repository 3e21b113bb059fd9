"""The reference pages say what the code says: every name, every field, every default, every exit code."""

from __future__ import annotations

import dataclasses
import enum
import inspect
import re
from pathlib import Path
from typing import Any

import pytest

import msr_async
from msr_async import BackupConfig, Config, MigrationScriptExecutor, MsrError, errors, events, models
from msr_async.cli.exits import exit_code
from msr_async.postgres import PostgresHandler

REFERENCE = Path(__file__).parents[1] / "docs" / "reference"
COMMANDS = ("backup create", "backup restore", "backup verify", "migrate", "status")


def page(name: str) -> str:
    return (REFERENCE / name).read_text("utf-8")


def table(text: str, heading: str) -> dict[str, list[str]]:
    """The cells of the first table under a heading, by the name in backticks that each row begins with."""
    _, _, section = text.partition(f"\n## {heading}\n")
    section = section.partition("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)`[^|]* \|(.*)\|$", section, re.MULTILINE)
    return {name: [cell.strip() for cell in cells.split(" | ")] for name, cells in rows}


def defaults(made: Any) -> dict[str, str]:
    found = {}
    for field in dataclasses.fields(made):
        value = getattr(made, field.name)
        is_word = isinstance(value, enum.Enum | Path)
        text = str(value) if is_word or (isinstance(value, str) and value) else repr(value)
        found[field.name] = "`BackupConfig()`" if isinstance(value, BackupConfig) else f"`{text}`"
    return found


@pytest.mark.parametrize("kind", [Config, BackupConfig])
def test_every_setting_stands_there_with_its_default(kind: type) -> None:
    rows = table(page("configuration.md"), kind.__name__)
    assert {name: cells[0] for name, cells in rows.items()} == defaults(kind())


def test_every_setting_has_a_meaning() -> None:
    text = page("configuration.md")
    rows = table(text, "Config") | table(text, "BackupConfig")
    assert [name for name, cells in rows.items() if len(cells[-1]) < 10] == []


@pytest.mark.parametrize("kind", [PostgresHandler, MigrationScriptExecutor])
def test_every_argument_stands_there_with_its_default(kind: type) -> None:
    rows = table(page("configuration.md"), kind.__name__)
    empty = inspect.Parameter.empty
    expected = {
        name: "" if parameter.default is empty else f"`{parameter.default!r}`"
        for name, parameter in inspect.signature(kind).parameters.items()
    }
    assert {name: cells[0] for name, cells in rows.items()} == expected


def error_classes() -> dict[str, type[MsrError]]:
    found = inspect.getmembers(errors, lambda item: isinstance(item, type) and issubclass(item, MsrError))
    return dict(found)


def error_rows() -> dict[str, list[str]]:
    text = page("errors.md")
    headings = ("Settings and connections", "Migrations", "Backups and restores")
    return {name: cells for heading in headings for name, cells in table(text, heading).items()}


def test_every_error_stands_there() -> None:
    assert sorted(error_rows()) == sorted(error_classes())


@pytest.mark.parametrize("name", sorted(error_classes()))
def test_an_error_says_when_and_what_to_do_and_its_exit_code(name: str) -> None:
    when, what_to_do, code = error_rows()[name]
    assert len(when) > 15
    assert len(what_to_do) > 10
    kind = error_classes()[name]
    error = kind.__new__(kind)
    by_command = {command: int(exit_code(error, command)) for command in COMMANDS}
    assert by_command == meant(code)


def meant(cell: str) -> dict[str, int]:
    """What an exit code's cell says, command by command."""
    depends = dict(zip(COMMANDS, (5, 6, 10, 1, 1), strict=True))
    number, _, rest = cell.partition(" ")
    codes = {
        "": dict.fromkeys(COMMANDS, int(number) if number.isdigit() else -1),
        "in `migrate`, else *command*": depends,
    }
    return depends if cell == "*command*" else codes[rest] | {"migrate": int(number)}


def test_every_name_of_the_front_door_stands_in_the_api() -> None:
    text = page("api.md")
    assert [name for name in msr_async.__all__ if f"`{name}`" not in text and f"`{name}(" not in text] == [
        "MigrationScriptExecutor"
    ]
    assert "\n## MigrationScriptExecutor\n" in text


def test_every_value_stands_there_with_its_fields() -> None:
    rows = table(page("api.md"), "Values")
    said = {name: re.match(r"`([^`]*)`", cells[0]) for name, cells in rows.items()}
    fields = {name: [field.name for field in dataclasses.fields(getattr(models, name))] for name in rows}
    assert {name: found.group(1).split() for name, found in said.items() if found} == fields
    offered = {name for name in msr_async.__all__ if dataclasses.is_dataclass(getattr(models, name, None))}
    assert set(rows) == offered


def test_every_event_stands_there_with_its_fields() -> None:
    rows = table(page("api.md"), "Events")
    kinds = [kind for _, kind in inspect.getmembers(events, inspect.isclass) if issubclass(kind, events.Event)]
    expected = {
        kind.__name__: f"`{' '.join(field.name for field in dataclasses.fields(kind))}`"
        for kind in kinds
        if kind is not events.Event
    }
    assert {name: cells[0] for name, cells in rows.items()} == expected


def test_every_method_of_the_executor_stands_there_with_its_arguments() -> None:
    text = page("api.md")
    for name, member in inspect.getmembers(MigrationScriptExecutor, inspect.isfunction):
        parameters = [
            parameter.replace(annotation=inspect.Parameter.empty)
            for parameter in list(inspect.signature(member).parameters.values())[1:]
        ]
        shown = f"| `{name}{inspect.Signature(parameters)}` |".replace("'", '"')
        assert name.startswith("_") or shown in text, shown


def test_every_module_stands_in_the_picture_of_the_house() -> None:
    source = Path(msr_async.__file__).parent
    picture = (REFERENCE.parent / "architecture.md").read_text("utf-8")
    words = set(re.findall(r"\w+", picture))
    modules = [path for path in source.rglob("*.py") if "contracts" not in path.parts]
    names = {path.parent.name if path.stem == "__init__" else path.stem for path in modules}
    assert sorted(names - words) == []
    rooms = [line.split()[0] for line in picture.splitlines() if re.match(r"  \w+/ ", line)]
    listed = picture.partition("```text")[2].partition("```")[0]
    for room in rooms:
        block = re.split(r"\n  (?=\w)", listed.partition(f"\n  {room}")[2])[0]
        there = {path.stem for path in (source / room).glob("*.py")} - {"__init__"}
        assert there - set(re.findall(r"\w+", block)) == set(), room
