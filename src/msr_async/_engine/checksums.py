"""Is a script still the one that was applied? Hashes that do not see what makes no difference."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator

_WITHOUT_MEANING = frozenset({"ctx", "kind", "type_comment", "type_ignores"})
_END = ")"


class _Mark(str):
    """A piece of the serialisation itself, as against a text of the file."""

    __slots__ = ()


def checksum(text: str) -> str:
    """SHA-256 of a script's text, the same on every system: line endings and a byte-order mark do not count."""
    if text.startswith("\ufeff"):
        text = text[1:]
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    return hashlib.sha256(text.encode()).hexdigest()


def tree_checksum(tree: ast.Module) -> str:
    """SHA-256 of what a Python file says: comments, blank lines, quotes, brackets and line breaks do not count.

    The serialisation is our own, because `ast.dump` writes the same tree differently from one Python to the next.
    """
    return hashlib.sha256("\n".join(_pieces(tree)).encode("ascii")).hexdigest()


def _pieces(tree: ast.Module) -> Iterator[str]:
    """Depth first, without recursion: a tree may be deeper than Python's stack."""
    waiting: list[object] = [tree]
    while waiting:
        item = waiting.pop()
        if isinstance(item, _Mark):
            yield item
        elif isinstance(item, ast.AST):
            yield f"({type(item).__name__}"
            waiting.append(_Mark(_END))
            for name, value in reversed(_fields(item)):
                waiting.append(value)
                waiting.append(_Mark(f".{name}"))
        elif isinstance(item, list):
            yield "("
            waiting.append(_Mark(_END))
            waiting.extend(reversed(item))
        else:
            yield _plain(item)


def _fields(node: ast.AST) -> list[tuple[str, object]]:
    """By name; empty ones are left out, because a newer Python gives old nodes new fields."""
    found: list[tuple[str, object]] = []
    for name in sorted(node._fields):
        value = getattr(node, name, None)
        if name not in _WITHOUT_MEANING and value is not None and value != []:
            found.append((name, value))
    if isinstance(node, ast.JoinedStr):
        return [("values", _joined(node.values))]
    if isinstance(node, ast.FormattedValue):
        return [(name, value) for name, value in found if not _is_empty_text(value)]
    return found


def _joined(values: list[ast.expr]) -> list[ast.expr]:
    """The pieces of an f-string, constant ones put together: Pythons cut them differently."""
    joined: list[ast.expr] = []
    for value in values:
        last = joined[-1] if joined else None
        if not (isinstance(value, ast.Constant) and isinstance(value.value, str)):
            joined.append(value)
        elif isinstance(last, ast.Constant) and isinstance(last.value, str):
            joined[-1] = ast.Constant(last.value + value.value)
        elif value.value:
            joined.append(value)
    return joined


def _is_empty_text(value: object) -> bool:
    return isinstance(value, ast.JoinedStr) and not _joined(value.values)


def _plain(value: object) -> str:
    """A leaf, typed and in ASCII: what `repr` calls printable changes with Python's Unicode tables."""
    # not `repr` for numbers: Python refuses to write a very long one in decimal
    text = hex(value) if type(value) is int else ascii(value)
    return f"{type(value).__name__} {text}"
