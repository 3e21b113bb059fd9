"""squawk beside our own rules: the real program where it is installed with the tests, stand-ins for what goes wrong."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from msr_async.models import Directives, Script
from msr_async.postgres.driver import Connection
from msr_async.postgres.linting import review
from msr_async.postgres.squawking import Findings, program, squawk
from tests.support.servers import Database, only_newest

ANY = {"PATH": ""}
"""An environment in which squawk is found where this interpreter's programs are."""


def script(text: str, name: str = "V202601010000_x.up.sql", *, transaction: bool = True) -> Script:
    directives = Directives(transaction=transaction)
    return Script(path=Path("migrations", name), text=text, language="sql", directives=directives)


def stand_in(folder: Path, body: str) -> dict[str, str]:
    """An environment whose MSR_SQUAWK is a program of these lines of Python."""
    path = folder / "squawk"
    path.write_text(f"#!{sys.executable}\nimport json, sys, time\nfrom pathlib import Path\n{body}\n")
    path.chmod(0o755)
    return {"MSR_SQUAWK": str(path)}


async def test_the_real_one_is_asked_about_all_scripts_at_once() -> None:
    scripts = [
        script("SELECT 1;\n"),
        script("-- é\r\nSELECT 1;\r\nCREATE TABLE t (\r\n  a char(3),\r\n  b int\r\n);", "a [b] *.sql"),
        script("REINDEX INDEX i;", transaction=False),
    ]
    found = await squawk(scripts, server_major=18, environ=ANY)
    assert found.failure == ""
    seen = {index: [(issue.line, issue.code) for issue in issues] for index, issues in found.by_script.items()}
    assert sorted(seen) == [1, 2]
    assert {(4, "squawk:ban-char-field"), (5, "squawk:prefer-bigint-over-int")} <= set(seen[1])
    assert seen[2] == [(1, "squawk:require-concurrent-reindex")]
    first = found.by_script[1][0]
    assert (first.path, first.severity) == (Path("migrations/a [b] *.sql"), "warning")


async def test_what_we_do_ourselves_is_left_out() -> None:
    text = "ALTER TABLE t ADD COLUMN a bigint;\nCREATE INDEX CONCURRENTLY i ON t (a);"
    assert await squawk([script(text)], server_major=18, environ=ANY) == Findings()


async def test_its_own_comments_count() -> None:
    text = "CREATE TABLE t (a char(3));"
    ignored = f"-- squawk-ignore ban-char-field\n{text}"
    found = await squawk([script(text), script(ignored)], server_major=18, environ=ANY)
    assert [issue.code for issue in found.by_script[0]] == ["squawk:ban-char-field"]
    assert 1 not in found.by_script


@only_newest
async def test_a_line_with_a_warning_of_ours_has_none_of_squawk(connection: Connection) -> None:
    text = "ALTER TABLE t ALTER x TYPE bigint;\nCREATE TABLE n (a char(3));"
    issues = await review(connection, [script(text)])
    assert [(issue.line, issue.code) for issue in issues] == [(1, "rewrite-type"), (2, "squawk:ban-char-field")]


@only_newest
async def test_it_is_off_when_told_so(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MSR_SQUAWK", "off")
    assert await review(connection, [script("CREATE TABLE n (a char(3));")]) == ()


@only_newest
async def test_a_failure_is_one_warning(
    connection: Connection, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MSR_SQUAWK", str(tmp_path / "gone"))
    own, failure = await review(connection, [script("ALTER TABLE t ALTER x TYPE bigint"), script("SELECT 1")])
    assert (own.code, failure.code, failure.severity, failure.path) == ("rewrite-type", "squawk", "warning", None)
    assert "MSR_SQUAWK=off" in failure.message


@pytest.fixture
async def connection(database: Database, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Connection]:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("MSR_SQUAWK", raising=False)
    database.sql("CREATE TABLE t AS SELECT 1 AS x; ANALYZE t")
    connection = await asyncpg.connect(database.dsn)
    try:
        yield connection
    finally:
        await connection.close()


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("print('no JSON'); sys.exit(1)", "JSONDecodeError"),
        ("print('[]'); print('bad option\\nmore', file=sys.stderr); sys.exit(2)", "bad option."),
        ("sys.exit(3)", "exit code 3."),
        ("print(json.dumps([{'rule_name': 'x', 'file': 'a/7/b.sql', 'message': '', 'line': 0}]))", "IndexError"),
        ("print(json.dumps([{'line': 0}]))", "KeyError"),
        ("print(json.dumps(1))", "TypeError"),
    ],
)
async def test_whatever_it_does_wrong_is_told_in_one_sentence(tmp_path: Path, body: str, words: str) -> None:
    found = await squawk([script("SELECT 1")], server_major=18, environ=stand_in(tmp_path, body))
    assert found.by_script == {}
    assert words in found.failure
    assert "\n" not in found.failure


async def test_it_is_ended_when_it_takes_too_long(tmp_path: Path) -> None:
    endless = stand_in(tmp_path, "time.sleep(60)")
    found = await squawk([script("SELECT 1")], server_major=18, environ=endless, deadline=0.3)
    assert "it was not done after 0.3 s." in found.failure


async def test_it_sees_the_very_text_and_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    body = f"""
import glob
(file,) = glob.glob(sys.argv[-1])
Path({str(tmp_path / "seen")!r}).write_bytes(json.dumps([sys.argv[1:-1], file]).encode() + b"\\n" + Path(file).read_bytes())
print(json.dumps([{{"rule_name": "r", "file": file, "message": "a\\n b", "help": "c", "line": 1}}]))
"""
    text = "SELECT 'é';\r\nSELECT 2;\n"
    found = await squawk([script(text)], server_major=17, environ=stand_in(tmp_path, body))
    assert [(str(issue), issue.code) for issue in found.by_script[0]] == [
        ("migrations/V202601010000_x.up.sql:2: a b c [squawk:r]", "squawk:r")
    ]
    head, _, seen = (tmp_path / "seen").read_bytes().partition(b"\n")
    arguments, file = json.loads(head)
    assert seen == text.encode()
    assert arguments == ["--reporter=json", "--pg-version=17.0", "--assume-in-transaction"]
    assert Path(file).name == "V202601010000_x.up.sql"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["seen", "squawk"]


async def test_without_scripts_it_is_not_started() -> None:
    assert await squawk([], server_major=18, environ={"MSR_SQUAWK": "/nowhere"}) == Findings()


def test_where_it_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on_path, beside = tmp_path / "path" / "squawk", tmp_path / "scripts" / "squawk"
    for path in (on_path, beside):
        path.parent.mkdir()
        path.write_text("#!/bin/sh\n")
        path.chmod(0o755)
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(beside.parent))
    assert program({"MSR_SQUAWK": "/named/squawk", "PATH": str(on_path.parent)}) == Path("/named/squawk")
    assert program({"PATH": str(on_path.parent)}) == on_path
    assert program({"PATH": ""}) == beside
    assert program({"MSR_SQUAWK": "OFF", "PATH": str(on_path.parent)}) is None
    beside.unlink()
    assert program({"PATH": ""}) is None
