"""What changes a script's checksum, and what does not."""

from __future__ import annotations

import ast

import pytest

from msr_async._engine.checksums import checksum, tree_checksum

SAMPLE = '''\
"""Split the name."""

from msr_async import batches

lock_timeout = "2s"
NAMES = {"a": 1, **{"b": 2.5}, "ü": b"\\x00", None: ...}


async def up(db, ctx, /, *more, flag=True, **rest):
    await db.execute(f"alter table {ctx.name!r:>{10}} add column first text")
    if (rows := [row async for row in db.cursor("select 1") if row is not None and not -1 < row.id <= 10**20]):
        print(*rows, sep="")


@batches(size=5_000)
async def data(db, ctx, batch):
    match batch.cursor:
        case None | {"id": 0, **others}:
            return
        case [first, *_] if first:
            raise ValueError from None
    try:
        x: int = lambda a, b=1: a[b:, ::2] @ 1j
    except* (OSError, KeyError) as group:
        del group
    return batch.after(max(row["id"] for row in rows), rows=len(rows))
'''


def of(text: str) -> str:
    return tree_checksum(ast.parse(text))


def test_line_endings_and_a_mark_do_not_change_the_checksum_of_a_text_and_anything_else_does() -> None:
    assert len({checksum(text) for text in ("a\nb\n", "a\r\nb\r\n", "a\rb\r", "\ufeffa\nb\n")}) == 1
    assert checksum("a\nb") != checksum("a\nb\n")
    assert checksum("a b") != checksum("a  b")


def test_the_checksum_of_a_text_is_its_sha256() -> None:
    assert checksum("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_the_checksum_of_a_tree_is_the_same_today_and_tomorrow_and_in_every_python() -> None:
    """It stands in the histories of databases: a change here makes every Python migration a changed one."""
    assert of(SAMPLE) == "b4d2166d95262cf9af2d72c9f2fa9900cc73974dd379ea986e1c5e4a0a0cdd64"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("x = 'a'", 'x = "a"'),
        ("f(a, b)", "f(\n    a,\n    b,\n)"),
        ("x = 1 + 2", "x = (1 + (2))"),
        ("x = 1  # one", "# one\n\nx = 1"),
        ("x = 'ab'", "x = ('a'\n     'b')"),
        ("x = f'a{b}c{d}'", "x = f'a{b}c' f'{d}'"),
        ("x = f'{a}'", "x = f'{a:}'"),
        ("x = 1000", "x = 1_000"),
        ("x = 255", "x = 0xFF"),
        ("x = u'a'", "x = 'a'"),
        ("if a:\n    b\n", "if a: b"),
        ("a\nb", "a; b"),
        ("x = '''a\nb'''", "x = '''a\r\nb'''"),
        ("del (a, b)", "del (a,b,)"),
        ("'a' 'b'", "'ab'"),
    ],
)
def test_what_only_looks_different_has_the_same_checksum(one: str, other: str) -> None:
    assert of(one) == of(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("x = 1", "x = 2"),
        ("x = 1", "x = 1.0"),
        ("x = 1", "x = True"),
        ("x = 1", "y = 1"),
        ("x = '1'", "x = 1"),
        ("x = 'a'", "x = b'a'"),
        ("x = None", "x = ..."),
        ("x = [None]", "x = []"),
        ("a\nb", "b\na"),
        ("def f(): a", "async def f(): a"),
        ("def f(a, /): b", "def f(a): b"),
        ("def f(a, *, b): c", "def f(a, *, b=None): c"),
        ("f(a, b)", "f((a, b))"),
        ("f(a, [b])", "f([a, b])"),
        ("x = 1 - (2 - 3)", "x = (1 - 2) - 3"),
        ("x = {**a}", "x = {a}"),
        ("x = f'{a}'", "x = f'{a!r}'"),
        ("x = f'{a:>1}'", "x = f'{a:>2}'"),
        ("x = f'a{b}'", "x = f'{b}a'"),
        ("x = 'a.b'", "x = a.b"),
        ("if a: b\nc", "if a:\n b\n c"),
        ("from . import a", "from .. import a"),
        ("x = 'é'", "x = 'e\u0301'"),
        ("'words'", ""),
    ],
)
def test_what_says_something_else_has_another_checksum(one: str, other: str) -> None:
    assert of(one) != of(other)


def test_an_f_string_cut_into_other_pieces_has_the_same_checksum() -> None:
    whole, cut = ast.parse("f'ab{c}'"), ast.parse("f'ab{c}'")
    (statement,) = cut.body
    assert isinstance(statement, ast.Expr)
    assert isinstance(statement.value, ast.JoinedStr)
    statement.value.values[:1] = [ast.Constant("a"), ast.Constant(""), ast.Constant("b")]
    assert tree_checksum(whole) == tree_checksum(cut)


def test_a_tree_deeper_than_the_stack_and_a_number_too_long_to_write_are_no_trouble() -> None:
    assert of("1" + "+1" * 1_500) != of("1" + "+1" * 1_501)
    assert of("x = 0x" + "f" * 10_000) != of("x = 0x" + "f" * 10_001)
