"""The pages: every link inside the repository leads somewhere, and every Python example runs."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.firestore import FirestoreTarget, only_own, require_emulator
from tests.support.scripts import script_environment
from tests.support.servers import Database, only_newest

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("benchmarks/*.md"), *ROOT.glob("examples/*.md")]
)

_FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ +(.+?) *$", re.MULTILINE)
_FILE = re.compile(
    r"^```\w+\n(?P<text>(?:--|#) (?P<name>[\w./-]+\.(?:sql|py|toml))\n.*?)^```$", re.MULTILINE | re.DOTALL
)
_EXAMPLE = re.compile(r"(?P<not_run>^<!-- not run: .+ -->\n+)?^```python\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)

_HAS_TESTS = re.compile(r"def test_|^class Test", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Example:
    page: Path
    line: int
    code: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def of_firestore(self) -> bool:
        return "msr_async.firestore" in self.code or self.page.name == "firestore.md"


def broken_links(page: Path, text: str) -> Iterator[str]:
    for link in _LINK.findall(_FENCE.sub("", text)):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, fragment = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        if not target.exists() or (fragment and fragment not in anchors(target)):
            yield link


def anchors(page: Path) -> set[str]:
    """What GitHub and mkdocs make of a page's headings."""
    headings = _HEADING.findall(_FENCE.sub("", page.read_text("utf-8")))
    return {re.sub(r"[^\w\- ]", "", item.lower().replace("`", "")).replace(" ", "-") for item in headings}


def examples() -> list[Example]:
    return [
        Example(page=page, line=text[: found.start("code")].count("\n") + 1, code=found["code"])
        for page in PAGES
        for text in [page.read_text("utf-8")]
        for found in _EXAMPLE.finditer(text)
        if not found["not_run"]
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    assert list(broken_links(page, page.read_text("utf-8"))) == []


def test_a_broken_link_is_seen(tmp_path: Path) -> None:
    (tmp_path / "other.md").write_text("# A `b`, c\n")
    text = "[x](other.md) [y](other.md#a-b-c) [z](gone.md) [w](other.md#gone) [h](https://example.org)\n```\n[n](no)\n```\n"
    assert list(broken_links(tmp_path / "page.md", text)) == ["gone.md", "other.md#gone"]


@only_newest
@pytest.mark.parametrize("example", [item for item in examples() if not item.of_firestore], ids=str)
def test_the_example_runs(example: Example, make_database: Callable[[], Database], tmp_path: Path) -> None:
    """As a script beside the page's files, with DATABASE_URL naming an empty database; one with tests in it, by pytest."""
    run_example(example, tmp_path, DATABASE_URL=make_database().dsn)


@only_own
@pytest.mark.parametrize("example", [item for item in examples() if item.of_firestore], ids=str)
def test_the_example_of_firestore_runs(example: Example, firestore_target: FirestoreTarget, tmp_path: Path) -> None:
    if "testing.emulator" in example.code:
        require_emulator()
    settings = {"MSR_FIRESTORE_PROJECT": firestore_target.project, "FIRESTORE_EMULATOR_HOST": firestore_target.address}
    run_example(example, tmp_path, **settings)


def run_example(example: Example, tmp_path: Path, **settings: str) -> None:
    for found in _FILE.finditer(example.page.read_text("utf-8")):
        file = tmp_path / found["name"]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(found["text"])
    (tmp_path / "pytest.ini").write_text("[pytest]\nanyio_mode = auto\n")
    (tmp_path / "conftest.py").write_text(
        "import pytest\n\n@pytest.fixture\ndef anyio_backend():\n    return 'asyncio'\n"
    )
    script = tmp_path / "test_example.py"
    script.write_text(example.code)
    how = ["-m", "pytest", "-q", "-p", "no:cacheprovider"] if _HAS_TESTS.search(example.code) else []
    own = script_environment(tmp_path / "bin", **settings)
    environ = {name: value for name, value in own.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(
        [sys.executable, *how, str(script)], cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stdout + done.stderr
