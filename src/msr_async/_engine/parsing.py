"""What does a Python migration define? Read from its syntax tree; the file is never imported for it."""

from __future__ import annotations

import ast
import warnings
from pathlib import Path
from typing import TypeAlias

Definition: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef


def parse(text: str, path: Path) -> ast.Module | SyntaxError:
    """The tree of a file, or why there is none."""
    try:
        return ast.parse(text, filename=str(path))
    except SyntaxError:
        return _parse_without_warnings(text, path)
    except (RecursionError, MemoryError):
        return SyntaxError("it is nested too deeply")


def definition(tree: ast.Module, name: str) -> Definition | None:
    """The top-level function of that name, the last one where there are several: so Python itself would have it."""
    found: Definition | None = None
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == name:
            found = node
    return found


def is_batched(tree: ast.Module) -> bool:
    """Whether it has a data step: an `async def data` under `@batches(...)` or `@something.batches(...)`."""
    step = definition(tree, "data")
    return isinstance(step, ast.AsyncFunctionDef) and decorated(step)


def decorated(step: Definition) -> bool:
    """Whether `@batches(...)` stands above it."""
    calls = (node.func for node in step.decorator_list if isinstance(node, ast.Call))
    return any(
        (isinstance(called, ast.Name) and called.id == "batches")
        or (isinstance(called, ast.Attribute) and called.attr == "batches")
        for called in calls
    )


def _parse_without_warnings(text: str, path: Path) -> ast.Module | SyntaxError:
    """A file's tree, and so its checksum, must not depend on whether this process takes warnings for errors."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return ast.parse(text, filename=str(path))
        except SyntaxError as error:
            return error
