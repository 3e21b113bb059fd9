"""The reference pages say what the code says: every name, every field, every default, every exit code."""

from __future__ import annotations

import ast
import dataclasses
import enum
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct

import msr_async
from msr_async import (
    BackupConfig,
    Config,
    Directives,
    MigrationScriptExecutor,
    MsrError,
    TransactionConfig,
    errors,
    events,
    protocols,
)
from msr_async.cli.exits import exit_code
from msr_async.firestore import FirestoreHandler
from msr_async.postgres import PostgresHandler
from msr_async.protocols import WorkOptions
from tests.support.servers import Database, only_newest

REFERENCE = Path(__file__).parents[1] / "docs" / "reference"
HOW_TO = REFERENCE.parent / "how-to"
SOURCE = Path(msr_async.__file__).parent
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
        found[field.name] = f"`{type(value).__name__}()`" if dataclasses.is_dataclass(value) else f"`{text}`"
    return found


@pytest.mark.parametrize("kind", [Config, TransactionConfig, BackupConfig])
def test_every_setting_stands_there_with_its_default(kind: type) -> None:
    rows = table(page("configuration.md"), kind.__name__)
    assert {name: cells[0] for name, cells in rows.items()} == defaults(kind())


def test_every_setting_has_a_meaning() -> None:
    text = page("configuration.md")
    rows = table(text, "Config") | table(text, "TransactionConfig") | table(text, "BackupConfig")
    assert [name for name, cells in rows.items() if len(cells[-1]) < 10] == []


@pytest.mark.parametrize("kind", [PostgresHandler, FirestoreHandler, MigrationScriptExecutor])
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
    depends: dict[str, int] = dict(zip(COMMANDS, (5, 6, 10, 1, 1), strict=True))
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
    offered = {name: getattr(msr_async, name) for name in msr_async.__all__}
    fields = {
        name: list(value.__struct_fields__)
        for name, value in offered.items()
        if isinstance(value, type) and issubclass(value, Struct) and not issubclass(value, events.Event)
    }
    assert {name: found.group(1).split() for name, found in said.items() if found} == fields


def test_every_event_stands_there_with_its_fields() -> None:
    rows = table(page("api.md"), "Events")
    kinds = [kind for _, kind in inspect.getmembers(events, inspect.isclass) if issubclass(kind, events.Event)]
    expected = {kind.__name__: f"`{' '.join(kind.__struct_fields__)}`" for kind in kinds if kind is not events.Event}
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


@pytest.mark.parametrize(
    "name", ["DatabaseMigrationHandler", "SchemaVersion", "Lock", "Backup", "Snapshot", "Restoration"]
)
def test_every_method_of_a_protocol_stands_where_backends_are_explained(name: str) -> None:
    text = (HOW_TO / "write-a-backend.md").read_text("utf-8")
    (row,) = re.findall(rf"^\| `{name}`[^|]*\|(.*)\|$", text, re.MULTILINE)
    members = [member for member in vars(getattr(protocols, name)) if not member.startswith("_")]
    assert len(members) > 1
    assert [member for member in members if not re.search(rf"`{member}[`(]", row)] == []


def test_every_option_of_a_unit_of_work_is_explained_to_backends() -> None:
    text = (HOW_TO / "write-a-backend.md").read_text("utf-8")
    (row,) = re.findall(r"^\| `WorkOptions`[^|]*\|(.*)\|$", text, re.MULTILINE)
    assert re.findall(r"`(\w+)`", row) == list(WorkOptions.__struct_fields__)


def test_every_directive_stands_there_for_sql_and_for_python() -> None:
    text = (HOW_TO / "write-migrations.md").read_text("utf-8")
    rows = dict(re.findall(r"^\| `([a-z-]+)(?:=[^`]*)?` \| `(\w+) = ", text, re.MULTILINE))
    spelled = {"no_transaction" if name == "transaction" else name for name in Directives.__struct_fields__}
    assert set(rows.values()) == spelled
    assert {name.replace("-", "_") for name in rows} == spelled


# -- the history's tables ---------------------------------------------------------------------------

_COLUMNS = """
SELECT attname, format_type(atttypid, atttypmod), coalesce(indisprimary, false) FROM pg_attribute
LEFT JOIN pg_index ON indrelid = attrelid AND indisprimary AND attnum = ANY (indkey)
WHERE attrelid = '{table}'::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum
"""


@only_newest
async def test_the_columns_of_the_history_stand_there(database: Database) -> None:
    async with PostgresHandler(database.dsn) as handler:
        await handler.run(handler.schema_version.ensure, WorkOptions())
    section = page("api.md").partition("\n## The history in PostgreSQL\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| `([\w ]+)`(, primary key)? \|", section, re.MULTILINE)
    shown = [f"{name}|{kind}|{'t' if key else 'f'}" for name, kind, key in rows]
    both = [database.sql(_COLUMNS.format(table=name)) for name in ("schema_version", "schema_version_notes")]
    assert shown == "\n".join(both).splitlines()


# -- the codes of findings --------------------------------------------------------------------------

_TELLERS = ("_issue", "Issue", "complain")


def codes_in(module: Path) -> Iterator[str]:
    """The codes that a module gives to its findings, as patterns: of a made-up one only the fixed letters are known."""
    for node in ast.walk(ast.parse(module.read_text("utf-8"))):
        if isinstance(node, ast.Call):
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            named = [keyword.value for keyword in node.keywords if keyword.arg == "code"]
            if name in _TELLERS:
                yield from (code for item in (*node.args, *named) if (code := code_of(item)))
        elif isinstance(node, ast.Return) and isinstance(node.value, ast.Tuple) and node.value.elts:
            yield code_of(node.value.elts[0])


def code_of(node: ast.expr) -> str:
    """A pattern; empty when it is no code."""
    match node:
        case ast.Constant(value=str(text)) if re.fullmatch(r"[a-z]+[a-z0-9]*(-[a-z0-9]+)*", text):
            return text
        case ast.JoinedStr(values=pieces):
            texts = [piece.value if isinstance(piece, ast.Constant) else "[a-z]+" for piece in pieces]
            pattern = "".join(str(text) for text in texts)
            return pattern if re.fullmatch(r"[a-z+\[\]-]+", pattern) and "-" in pattern.replace("[a-z]+", "") else ""
    return ""


def test_every_code_of_a_finding_stands_there() -> None:
    section = page("errors.md").partition("\n## Findings\n")[2].partition("\n## ")[0]
    shown = {
        code
        for cell in re.findall(r"^\| (`[^|]*) \|", section, re.MULTILINE)
        for code in re.findall(r"`([\w-]+)`", cell)
    }
    modules = [
        *(SOURCE / "_engine").glob("*.py"),
        SOURCE / "postgres" / "kinds.py",
        SOURCE / "firestore" / "handler.py",
    ]
    given = {code for module in modules for code in codes_in(module) if code}
    assert len(given) > 30
    assert sorted(code for code in given if not any(re.fullmatch(code, one) for one in shown)) == []
    # `directive` stands as a default, not in a call
    assert sorted(one for one in shown if not any(re.fullmatch(code, one) for code in given)) == ["directive"]


def test_every_module_stands_in_the_picture_of_the_house() -> None:
    picture = (REFERENCE.parent / "architecture.md").read_text("utf-8")
    words = set(re.findall(r"\w+", picture))
    modules = [path for path in SOURCE.rglob("*.py") if "contracts" not in path.parts]
    names = {path.parent.name if path.stem == "__init__" else path.stem for path in modules}
    assert sorted(names - words) == []
    rooms = [line.split()[0] for line in picture.splitlines() if re.match(r"  \w+/ ", line)]
    listed = picture.partition("```text")[2].partition("```")[0]
    for room in rooms:
        block = re.split(r"\n  (?=\w)", listed.partition(f"\n  {room}")[2])[0]
        there = {path.stem for path in (SOURCE / room).glob("*.py")} - {"__init__"}
        assert there - set(re.findall(r"\w+", block)) == set(), room
