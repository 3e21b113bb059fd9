"""Is a script fit to run? Judged from its text alone; a Python file is parsed and never imported here."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Sequence

from ..models import Issue, Script

Inspect = Callable[[Script], Sequence[Issue]]


def defines_down(script: Script) -> bool:
    """Whether the file is Python with a `down`. One that cannot be parsed is given the benefit of the doubt."""
    if script.language != "py":
        return False
    tree = _parse(script)
    return isinstance(tree, SyntaxError) or _definition(tree, "down") is not None


def inspect_python(script: Script) -> tuple[Issue, ...]:
    """What is wrong with a Python migration: its syntax, or the shape of `up` and `down`."""
    tree = _parse(script)
    if isinstance(tree, SyntaxError):
        return (_issue(script, "syntax", f"The file is not valid Python: {tree.msg}.", tree.lineno),)
    if _definition(tree, "up") is None:
        return (_issue(script, "no-up", "The file has no `async def up(db, ctx)` at its top level.", None),)
    return tuple(issue for name in ("up", "down") for issue in _judge(script, tree, name))


def inspector(inspect_native: Inspect) -> Inspect:
    """One judge for both languages: Python is ours, everything else is the database's."""

    def inspect(script: Script) -> Sequence[Issue]:
        return inspect_python(script) if script.language == "py" else inspect_native(script)

    return inspect


def _parse(script: Script) -> ast.Module | SyntaxError:
    try:
        return ast.parse(script.text, filename=str(script.path))
    except SyntaxError as error:
        return error
    except (RecursionError, MemoryError):
        return SyntaxError("it is nested too deeply")


def _definition(tree: ast.Module, name: str) -> ast.stmt | None:
    found: ast.stmt | None = None
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == name:
            found = node  # the last one wins, as when Python runs it
    return found


def _judge(script: Script, tree: ast.Module, name: str) -> Iterator[Issue]:
    node = _definition(tree, name)
    if isinstance(node, ast.FunctionDef):
        yield _issue(script, f"sync-{name}", f"`{name}` must be `async def {name}(db, ctx)`.", node.lineno)
    elif isinstance(node, ast.AsyncFunctionDef) and not _takes_two(node.args):
        message = f"`{name}` must take two positional arguments: `async def {name}(db, ctx)`."
        yield _issue(script, f"{name}-arguments", message, node.lineno)
    elif isinstance(node, ast.AsyncFunctionDef) and _yields(node):
        yield _issue(script, f"{name}-yields", f"`{name}` must not `yield`: nothing would run.", node.lineno)


def _takes_two(arguments: ast.arguments) -> bool:
    positional = len(arguments.posonlyargs) + len(arguments.args)
    required = positional - len(arguments.defaults)
    keyword_only_required = any(default is None for default in arguments.kw_defaults)
    return required <= 2 and (positional >= 2 or arguments.vararg is not None) and not keyword_only_required


def _yields(node: ast.AsyncFunctionDef) -> bool:
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
