"""Is a script fit to run? Judged from its text alone; a Python file is parsed and never imported here."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Sequence

from ..models import Issue, Script
from .directives import python_directives, sql_directives
from .parsing import Definition, decorated, definition, is_batched, parse

Inspect = Callable[[Script], Sequence[Issue]]

_ARGUMENTS = {"up": "db, ctx", "down": "db, ctx", "data": "db, ctx, batch"}
_NUMBERS = {2: "two", 3: "three"}


def inspector(inspect_native: Inspect) -> Inspect:
    """One judge for both languages: Python and directives are ours, everything else is the database's."""

    def inspect(script: Script) -> Sequence[Issue]:
        if script.language == "py":
            return inspect_python(script)
        _, issues = sql_directives(script.text, script.path)
        found = inspect_native(script)
        return (*issues, *found) if issues else found

    return inspect


def inspect_python(script: Script) -> tuple[Issue, ...]:
    """What is wrong with a Python migration: its syntax, its directives, the shape of `up`, `down` and `data`."""
    tree = parse(script.text, script.path)
    if isinstance(tree, SyntaxError):
        return (_issue(script, "syntax", f"The file is not valid Python: {tree.msg}.", tree.lineno),)
    _, issues = python_directives(tree, script.text, script.path)
    if definition(tree, "up") is None and not is_batched(tree):
        message = "The file has no `async def up(db, ctx)` at its top level."
        issues += (_issue(script, "no-up", message, None),)
    return (*issues, *(issue for name in _ARGUMENTS for issue in _judge(script, tree, name)))


def _judge(script: Script, tree: ast.Module, name: str) -> Iterator[Issue]:
    node = definition(tree, name)
    if node is None:
        return
    wanted = f"`async def {name}({_ARGUMENTS[name]})`"
    count = _ARGUMENTS[name].count(",") + 1
    if isinstance(node, ast.FunctionDef):
        yield _issue(script, f"sync-{name}", f"`{name}` must be {wanted}.", node.lineno)
    elif not _takes(node.args, count):
        message = f"`{name}` must take {_NUMBERS[count]} positional arguments: {wanted}."
        yield _issue(script, f"{name}-arguments", message, node.lineno)
    elif _yields(node):
        yield _issue(script, f"{name}-yields", f"`{name}` must not `yield`: nothing would run.", node.lineno)
    if name == "data" and not decorated(node):
        message = "`data` is the name of a step in batches. Put `@batches(size=...)` above it, or name it differently."
        yield _issue(script, "data-undecorated", message, node.lineno)


def _takes(arguments: ast.arguments, count: int) -> bool:
    positional = len(arguments.posonlyargs) + len(arguments.args)
    required = positional - len(arguments.defaults)
    keyword_only_required = any(default is None for default in arguments.kw_defaults)
    return required <= count and (positional >= count or arguments.vararg is not None) and not keyword_only_required


def _yields(node: Definition) -> bool:
    waiting: list[ast.AST] = list(node.body)
    while waiting:
        current = waiting.pop()
        if isinstance(current, ast.Yield | ast.YieldFrom):
            return True
        if not isinstance(current, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
            waiting.extend(ast.iter_child_nodes(current))
    return False


def _issue(script: Script, code: str, message: str, line: int | None) -> Issue:
    return Issue(code=code, severity="error", message=message, path=script.path, line=line)
