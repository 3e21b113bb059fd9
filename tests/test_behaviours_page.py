"""The page of the behaviours and the suite are read side by side: each number has tests, and the page says where."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from pathlib import Path

TESTS = Path(__file__).parent
PAGE = TESTS.parent / "docs" / "reference" / "behaviours.md"
NUMBERS = range(1, 45)

_NAME = re.compile(r"test_behaviour_(\d\d)_\w+")


def shown(text: str) -> dict[int, set[str]]:
    """The files that a page names, by the number of their row."""
    rows = re.findall(r"^\| (\d+) \| [^|]{15,} \| ([^|]*) \|$", text, re.MULTILINE)
    return {int(number): set(re.findall(r"`([\w/]+\.py)`", files)) for number, files in rows}


def there(folder: Path) -> dict[int, set[str]]:
    """The files that hold tests of a behaviour, by its number."""
    found: dict[int, set[str]] = defaultdict(set)
    for path in folder.rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (match := _NAME.fullmatch(node.name)):
                found[int(match[1])].add(path.relative_to(folder).as_posix())
    return dict(found)


def test_every_behaviour_has_a_test() -> None:
    assert sorted(there(TESTS)) == list(NUMBERS)


def test_the_page_names_the_files_of_every_behaviour_and_no_others() -> None:
    assert shown(PAGE.read_text("utf-8")) == there(TESTS)


def test_the_page_has_each_number_once_and_in_order() -> None:
    assert [int(number) for number in re.findall(r"^\| (\d+) \|", PAGE.read_text("utf-8"), re.MULTILINE)] == list(
        NUMBERS
    )


def test_a_file_that_is_gone_and_a_test_that_is_new_are_seen(tmp_path: Path) -> None:
    (tmp_path / "test_one.py").write_text(
        "async def test_behaviour_07_it_holds() -> None: ...\n\ndef other() -> None: ...\n"
    )
    assert there(tmp_path) == {7: {"test_one.py"}}
    row = "| 7 | Something that holds always | `test_one.py`, `cli/test_two.py` |\n"
    assert shown(row) == {7: {"test_one.py", "cli/test_two.py"}}
