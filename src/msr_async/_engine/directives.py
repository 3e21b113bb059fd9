"""How does a script want to be run? `-- msr: ...` lines at the top of SQL say it, module attributes in Python."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ..models import NO_DIRECTIVES, Directives, Isolation, Issue, Severity

# texts, which `re` compiles when they are first used: few scripts have directives
_COMMENT = r"[ \t\n\r\f\v]*(?:(?P<line>--[^\r\n]*)|(?P<block>/\*))"
_BLOCK_EDGE = r"/\*|\*/"
_OURS = r"(?i)--[^\S\r\n]*msr:(?P<rest>.*)"
_LATE = r"(?i)--[^\S\r\n]*msr:"
_IN_PYTHON = r"(?i)(?<![^\r\n])[ \t]*#[^\S\r\n]*msr:"
_LINE_END = r"\r\n?|\n"
_DURATION = r"(?a)(?P<number>[0-9]+(?:\.[0-9]+)?)\s*(?P<unit>ms|s|min|h)?"
_SECONDS = {"ms": 0.001, "s": 1.0, None: 1.0, "min": 60.0, "h": 3600.0}
_LONGEST = 2_000_000
"""Seconds, some 23 days: PostgreSQL counts milliseconds in 31 bits."""
_CODE = r"[a-z][a-z0-9-]*(:[a-z][a-z0-9-]*)?"


def sql_directives(text: str, path: Path) -> tuple[Directives, tuple[Issue, ...]]:
    """What a SQL script says, and what is wrong with how it says it."""
    if "msr:" not in text and "MSR:" not in text:
        return NO_DIRECTIVES, ()
    reading = _Reading(path)
    end = 0
    for start, comment, end in _comments_above(text):  # noqa: B007 - where the last one ends is needed below
        ours = re.fullmatch(_OURS, comment)
        if ours:
            _read_line(reading, ours["rest"], _line_of(text, start))
    for late in re.compile(_LATE).finditer(text, end):
        message = "This directive stands below the first statement and is not followed. Move it to the top."
        reading.complain(message, _line_of(text, late.start()), code="late-directive", severity="warning")
    return reading.result()


def python_directives(tree: ast.Module, text: str, path: Path) -> tuple[Directives, tuple[Issue, ...]]:
    """The same of a Python file; the attributes are `no_transaction`, `lock_timeout`, ... with plain values."""
    reading = _Reading(path)
    for node in tree.body:
        if not isinstance(node, ast.Assign | ast.AnnAssign) or node.value is None:
            continue
        for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
            if isinstance(target, ast.Name) and target.id in _ATTRIBUTES:
                _read_attribute(reading, target.id, node.value, node.lineno)
    for line in re.finditer(_IN_PYTHON, text) if "msr:" in text else ():
        message = (
            "Directives of a Python file are module attributes, such as `no_transaction = True`; this is a comment."
        )
        place = _line_of(text, line.start())
        reading.complain(message, place, code="late-directive", severity="warning")
    return reading.result()


class _Reading:
    """Collects values and complaints of one script."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._values: dict[str, Any] = {}
        self._allow: list[str] = []
        self._issues: list[Issue] = []
        self._line = 0

    def take(self, name: str, value: Any, line: int, *, shown: str) -> None:
        """Args:
        value: a text in SQL (None where there is no `=`), a literal in Python.
        shown: how the file spells the name.
        """
        reader = _READERS.get(name)
        if reader is None:
            known = ", ".join(sorted(_READERS))
            self.complain(f"There is no directive {shown!r}. There are: {known}.", line)
            return
        self._line = line
        try:
            read = reader(value)
        except ValueError as error:
            given = "no value" if value is None else repr(value)
            self.complain(f"The directive {shown!r} has {given}. {error}", line)
            return
        repeated = name in self._values
        if name == "allow":
            repeated = not set(self._allow).isdisjoint(read)
            self._allow.extend(read)
        if repeated:
            self.complain(f"The directive {shown!r} is given twice. Keep one of them.", line)
        self._values[name] = read

    def complain(self, message: str, line: int, *, code: str = "directive", severity: Severity = "error") -> None:
        self._issues.append(Issue(code=code, severity=severity, message=message, path=self._path, line=line))

    def result(self) -> tuple[Directives, tuple[Issue, ...]]:
        values = self._values
        outside = values.get("no-transaction", False)
        if outside and values.get("isolation"):
            self.complain("Without a transaction there is no isolation level. Keep one of the two.", self._line)
        found = Directives(
            transaction=not outside,
            lock_timeout=values.get("lock-timeout"),
            statement_timeout=values.get("statement-timeout"),
            isolation=values.get("isolation"),
            allow=tuple(dict.fromkeys(self._allow)),
        )
        return NO_DIRECTIVES if found == NO_DIRECTIVES else found, tuple(self._issues)


def _comments_above(text: str) -> Iterator[tuple[int, str, int]]:
    """Comments before the first statement: where each starts, its text (none of a block's), where it ends."""
    position = 0
    comment = re.compile(_COMMENT)
    while match := comment.match(text, position):
        if match["block"] is None:
            position = match.end()
            yield match.start("line"), match["line"], position
        else:
            position = _end_of_block(text, match.start("block"))
            yield match.start("block"), "", position


def _end_of_block(text: str, start: int) -> int:
    depth = 0
    for edge in re.compile(_BLOCK_EDGE).finditer(text, start):
        depth += 1 if edge[0] == "/*" else -1
        if depth == 0:
            return edge.end()
    return len(text)


def _read_line(reading: _Reading, rest: str, line: int) -> None:
    items = [item.strip() for item in rest.split(",") if item.strip()]
    if not items:
        reading.complain("The line names no directive. Write one behind `msr:`, or take the line out.", line)
    for item in items:
        shown, equals, value = item.partition("=")
        name = shown.strip()
        reading.take(name.lower(), value.strip() if equals else None, line, shown=name)


def _read_attribute(reading: _Reading, name: str, node: ast.expr, line: int) -> None:
    try:
        value = ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        reading.complain(f"`{name}` is read without running the file, so it must be a plain value.", line)
        return
    if value is not None:  # as if it were not there
        reading.take(name.replace("_", "-"), value, line, shown=name)


def _line_of(text: str, position: int) -> int:
    return len(re.findall(_LINE_END, text[:position])) + 1


def _flag(value: Any) -> bool:
    if value is None:
        return True
    if isinstance(value, bool):
        return value
    raise ValueError("In SQL it takes no value, in Python True or False.")


def _duration(value: Any) -> float:
    seconds: float | None = None
    if isinstance(value, str) and (match := re.fullmatch(_DURATION, value)):
        seconds = float(match["number"]) * _SECONDS[match["unit"]]
    elif isinstance(value, int | float) and not isinstance(value, bool):
        seconds = float(value)
    if seconds is None or not 0 <= seconds <= _LONGEST:
        raise ValueError("Give a time such as 500ms, 2s, 1min, 1h, or seconds as a number; 0 waits without end.")
    return seconds


def _isolation(value: Any) -> Isolation:
    plain = value.lower().replace("-", " ").replace("_", " ") if isinstance(value, str) else value
    known: tuple[Isolation, ...] = ("read committed", "repeatable read", "serializable")
    for level in known:
        if plain == level:
            return level
    raise ValueError(f"Use one of: {', '.join(known)}.")


def _codes(value: Any) -> tuple[str, ...]:
    codes = (value,) if isinstance(value, str) else value
    if not isinstance(codes, list | tuple) or not all(
        isinstance(code, str) and re.fullmatch(_CODE, code) for code in codes
    ):
        raise ValueError("Give the code of a warning, as it stands in brackets behind it.")
    return tuple(codes)


_READERS: Mapping[str, Callable[[Any], Any]] = {
    "no-transaction": _flag,
    "lock-timeout": _duration,
    "statement-timeout": _duration,
    "isolation": _isolation,
    "allow": _codes,
}
_ATTRIBUTES = frozenset(name.replace("-", "_") for name in _READERS)
