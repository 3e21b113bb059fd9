"""Does changing a column's type rewrite its table? Pure.

The server skips the rewrite where the old bytes are right for the new type: binary coercible types, and casts to a
wider type modifier that a type's support function removes (varchar_support, numeric_support, timestamp_support, ... in
PostgreSQL's sources; https://www.postgresql.org/docs/current/sql-altertable.html, Notes).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .lexing import Token, tokens

_SYNONYMS = {
    "character varying": "varchar", "char varying": "varchar", "national character varying": "varchar",
    "character": "char", "bpchar": "char", "national character": "char", "nchar": "char",
    "int": "integer", "int4": "integer", "int2": "smallint", "int8": "bigint", "bool": "boolean",
    "decimal": "numeric", "dec": "numeric", "float8": "double precision", "float4": "real",
    "timestamp with time zone": "timestamptz", "timestamp without time zone": "timestamp",
    "time with time zone": "timetz", "time without time zone": "time", "bit varying": "varbit",
}  # fmt: skip
_KNOWN = {
    *("varchar", "char", "text", "smallint", "integer", "bigint", "boolean", "numeric", "double precision", "real"),
    *("timestamptz", "timestamp", "timetz", "time", "date", "interval", "varbit", "bit", "uuid", "json", "jsonb"),
    *("bytea", "inet", "cidr", "macaddr", "xml", "citext", "money", "point", "tsvector", "int4range", "int8range"),
}
_TEXTS = {"text", "varchar"}
# castmethod 'b' in pg_cast, beside the texts themselves
_BINARY = {
    ("cidr", "inet"),
    *((kind, to) for to in _TEXTS for kind in ("xml", "citext")),
    *((kind, "citext") for kind in _TEXTS),
}
_TEMPORAL = {"timestamptz", "timestamp", "timetz", "time", "interval"}


@dataclass(frozen=True)
class Type:
    base: str
    numbers: tuple[int, ...]
    array: bool


def parse(said: Sequence[Token] | str) -> Type:
    """A type as a script or `format_type` says it."""
    words: list[str] = []
    numbers: list[int] = []
    array = depth = 0
    for token in tokens(said) if isinstance(said, str) else said:
        if token.kind == "sign":
            depth += (token.text == "(") - (token.text == ")")
            array |= token.text == "["
        elif depth == 0 and token.text == "array" and words:
            array = 1
        elif depth == 0 and token.kind != "number":
            words.append(token.text)
        elif depth > 0 and token.text.isdigit():
            numbers.append(int(token.text))
    base = " ".join(words).removeprefix("pg_catalog ")
    bare = base == "bpchar"
    base = _SYNONYMS.get(base, base)
    if base == "float":
        base, numbers = ("real" if numbers and numbers[0] <= 24 else "double precision"), []
    if base in ("char", "bit") and not numbers and not bare:
        numbers = [1]
    if base == "numeric" and len(numbers) == 1:
        numbers.append(0)
    return Type(base, tuple(numbers), bool(array))


def rewrites(old: Type, new: Type, *, utc: bool) -> bool | None:
    """Whether it does; None where that cannot be told from the names.

    Args:
        utc: the session's time zone is UTC, so that a timestamp's bytes are those of a timestamptz.
    """
    if old == new:
        return False
    if old.base not in _KNOWN or new.base not in _KNOWN:
        return None
    if old.array or new.array:
        return True  # element by element, even where an element's bytes would do
    if old.base == new.base:
        return _narrows(old, new)
    if (old.base in _TEXTS and new.base in _TEXTS) or (old.base, new.base) in _BINARY:
        return bool(new.numbers)
    if {old.base, new.base} == {"timestamp", "timestamptz"}:
        return not utc or _narrows(old, new)
    return True


def _narrows(old: Type, new: Type) -> bool:
    """Of one type with other numbers: whether values may have to change."""
    if old.base in ("varchar", "varbit"):
        return bool(new.numbers) and (not old.numbers or new.numbers < old.numbers)
    if old.base == "numeric":
        if not new.numbers or not old.numbers:
            return bool(new.numbers)
        return new.numbers[1] != old.numbers[1] or new.numbers[0] < old.numbers[0]
    if old.base in _TEMPORAL:
        return (new.numbers or (6,)) < (old.numbers or (6,))
    return True


def using_is_plain(using: Sequence[Token], column: str, new: Type) -> bool:
    """Whether a USING expression only says what would happen without it: the column, or its cast to the new type."""
    if [token.text for token in using[:2]] == ["cast", "("] and using[-1].text == ")":
        using = using[2:-1]
    if not using or using[0].text != column:
        return not using
    if len(using) == 1:
        return True
    is_cast = using[1].text in ("::", "as")
    return is_cast and parse(using[2:]) == new
