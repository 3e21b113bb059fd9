"""The pages' shell lines: every `msr-async` command parses, every nox session exists, and the tutorial runs as it stands."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cyclopts import CycloptsError

from msr_async.cli.app import app
from tests.support.scripts import run, script_environment
from tests.support.servers import Database, only_newest
from tests.test_docs import PAGES, ROOT

_SHELL = re.compile(r"^```(?:shell|sh|bash|console)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`((?:msr-async|nox) [^`]+)`")
_CONTINUED = re.compile(r"\\\n\s*")


@dataclass(frozen=True, kw_only=True)
class Line:
    page: Path
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}: {self.text}"

    @property
    def commands(self) -> Iterator[list[str]]:
        """Its simple commands as words, without the variables that are set in front."""
        words = shlex.shlex(
            re.sub(r"\$\((?:[^()]|\([^()]*\))*\)", "PATH", self.text), posix=True, punctuation_chars="|&;"
        )
        words.whitespace_split = True
        words.commenters = "#"
        command: list[str] = []
        for word in words:
            if set(word) <= set("|&;"):
                yield command
                command = []
            elif command or not re.match(r"[A-Z_]+=", word):
                command.append(word)
        yield command


def lines() -> list[Line]:
    found = []
    for page in PAGES:
        text = page.read_text("utf-8")
        for block in _SHELL.finditer(text):
            plain = _CONTINUED.sub(" ", block["text"]).splitlines()
            prompted = [line.removeprefix("$ ") for line in plain if line.startswith("$ ")]
            found += [Line(page=page, text=line) for line in prompted or plain]
        found += [
            Line(page=page, text=inline)
            for inline in _INLINE.findall(re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S))
        ]
    return found


def starting_with(program: str) -> list[tuple[Line, list[str]]]:
    wanted = [(line, command) for line in lines() if program in line.text for command in line.commands]
    return [(line, command[1:]) for line, command in wanted if command[:1] == [program]]


def refusal(tokens: list[str]) -> str:
    """Why the command line does not understand it; empty when it does."""
    try:
        app.parse_args(tokens, print_error=False, exit_on_error=False)
    except CycloptsError as error:
        return str(error)
    return ""


def test_the_commands_in_the_pages_are_understood() -> None:
    shown = [(line, arguments) for line, arguments in starting_with("msr-async") if "..." not in line.text]
    assert len(shown) > 25
    assert [f"{line}: {refusal(arguments)}" for line, arguments in shown if refusal(arguments)] == []


@pytest.mark.parametrize(
    "wrong", ["migrate --no-such-flag", "backup creat", "migrate --strategy sideways", "status extra"]
)
def test_a_wrong_command_is_seen(wrong: str) -> None:
    assert refusal(wrong.split())


def test_the_words_of_a_line_are_found() -> None:
    line = Line(page=ROOT, text='A=1 msr-async migrate --backup "$(cat $(ls x))" && nox -s tests  # why')
    assert list(line.commands) == [["msr-async", "migrate", "--backup", "PATH"], ["nox", "-s", "tests"]]


def test_the_nox_sessions_in_the_pages_exist() -> None:
    sessions = set(re.findall(r"^@nox\.session.*\ndef (\w+)", (ROOT / "noxfile.py").read_text(), re.MULTILINE))
    shown = starting_with("nox")
    assert len(shown) > 5
    asked = {name for _, (flag, *names) in shown if flag == "-s" for name in names if re.fullmatch(r"\w+", name)}
    asked -= {word for _, words in shown if "--" in words for word in words[words.index("--") :]}
    assert asked - sessions == set()


# -- what the README begins with -------------------------------------------------------------------


def test_the_two_commands_stand_at_the_beginning_of_the_readme() -> None:
    blocks = [block["text"] for block in _SHELL.finditer((ROOT / "README.md").read_text("utf-8"))]
    assert blocks[0].splitlines() == ["pip install nox && nox -s demo", "pip install nox && nox -s tests"]


@only_newest
def test_the_main_example_of_the_readme_does_what_it_says(
    make_database: Callable[[], Database], tmp_path: Path
) -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    lay_out(text, tmp_path)
    database = make_database()
    environ = script_environment(tmp_path / "bin", DATABASE_URL=database.dsn)
    (code,) = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    (tmp_path / "main.py").write_text(code)
    done = run(["python", "main.py"], tmp_path, environ)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "applied ['V202611220900_create_notes']\n"
    assert database.sql("SELECT to_regclass('notes') IS NULL") == "t"
    kept = sorted((tmp_path / "backups" / "production").glob("*.msrbak"))
    assert len(kept) == 2

    (tmp_path / "migrations" / "V202611220930_fine.up.sql").write_text("CREATE TABLE fine (id int);\n")
    (tmp_path / "migrations" / "V202611221000_ruin.up.sql").write_text("DROP TABLE notes;\nSELECT 1 / 0;\n")
    done = run(["python", "main.py"], tmp_path, environ)
    assert done.returncode == 0, done.stderr
    assert "V202611221000_ruin.up.sql:2:1: division by zero." in done.stdout
    assert " was restored: the database is as it was before the run, at " in done.stdout
    assert done.stdout.endswith(" What other sessions have written since then is gone. True\n")


# -- the tutorial ----------------------------------------------------------------------------------

_STEP = re.compile(r"^```(?P<kind>sql|python|console)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"(?:--|#) (?P<name>[\w./-]+)\n")


def lay_out(text: str, folder: Path) -> None:
    """Write the blocks whose first line names a file."""
    for step in _STEP.finditer(text):
        write(step["text"], folder)


def write(block: str, folder: Path) -> None:
    named = _FILE.match(block)
    if named:
        path = folder / named["name"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block)


@only_newest
def test_the_tutorial_runs_as_it_stands(make_database: Callable[[], Database], tmp_path: Path) -> None:
    environ = script_environment(tmp_path / "bin", DATABASE_URL=make_database().dsn)
    steps = list(_STEP.finditer((ROOT / "docs" / "tutorial.md").read_text("utf-8")))
    talks = 0
    for step in steps:
        write(step["text"], tmp_path)
        commands, shown = talk(step["text"])
        done = run(["sh", "-c", f"exec 2>&1\n{commands}"], tmp_path, environ)
        assert step["kind"] != "console" or same_talk(shown, done.stdout), done.stdout
        talks += step["kind"] == "console"
    assert talks == 6


def talk(block: str) -> tuple[str, str]:
    """What is typed, and what is answered."""
    typed = [line.removeprefix("$ ") for line in block.splitlines() if line.startswith("$ ")]
    answered = [line for line in block.splitlines() if not line.startswith("$ ")]
    return "\n".join(typed), "\n".join(answered)


def same_talk(shown: str, said: str) -> bool:
    """Whether it is the same but for numbers, ids, names of databases and folders; `...` stands for any lines."""
    pattern = re.escape(plain(shown)).replace("\\.\\.\\.\\\n", "(?:.*\n)*")
    return re.fullmatch(pattern, plain(said)) is not None


def plain(text: str) -> str:
    text = re.sub(r"(?<![\w/])/\S*/", "/", text)
    text = re.sub(r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", "ID", text)
    text = re.sub(r"-\d{8}T\d{6}Z-[0-9a-f]{8}", "-TOKEN", text)
    text = re.sub(r"\S+@\S+:\d+", "DATABASE", text)
    text = re.sub(r"\b(?:\d{4}-\d\d-\d\d )?\d\d:\d\d:\d\d", "TIME", text)
    text = re.sub(r"\b\d[\d.,]* (?:ms|s|B|kB|MB)(?:/s)?(?=\W|$)", "AMOUNT", text)
    return re.sub(
        r" by msr_async\b.*", " by TOOL", re.sub(r"[ ]+", " ", re.sub(r" +$", "", text, flags=re.MULTILINE))
    ).strip()


def test_another_answer_than_the_shown_one_is_seen() -> None:
    assert same_talk("a 1.5 s\n...\nend /x/y.z", "a 20 ms\nmore\nand more\nend /other/y.z\n")
    assert not same_talk("2 migrations applied in 0.6 s", "3 migrations applied in 0.6 s")
    assert not same_talk("a\nb", "a\nmore\nb")


# -- Python that cannot run by itself --------------------------------------------------------------

_NOT_RUN = re.compile(r"^<!-- not run: .+ -->\n+```python\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)


def not_run() -> list[str]:
    return [found["code"] for page in PAGES for found in _NOT_RUN.finditer(page.read_text("utf-8"))]


def unknown_imports(code: str) -> list[str]:
    """The names that a piece of Python imports and that are not there; the code itself is only parsed."""
    missing = []
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom) and node.module:
            module = importlib.import_module(node.module)
            missing += [f"{node.module}.{item.name}" for item in node.names if not hasattr(module, item.name)]
        elif isinstance(node, ast.Import):
            missing += [item.name for item in node.names if importlib.util.find_spec(item.name) is None]
    return missing


@pytest.mark.parametrize("code", not_run())
def test_python_that_is_not_run_is_python_and_its_imports_exist(code: str) -> None:
    assert unknown_imports(code) == []


def test_an_import_of_nothing_is_seen() -> None:
    code = "import no_such_thing\nfrom msr_async import Config, NoSuchThing\n"
    assert sorted(unknown_imports(code)) == ["msr_async.NoSuchThing", "no_such_thing"]
