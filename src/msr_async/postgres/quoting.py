"""The one place where a name or a text becomes SQL."""

from __future__ import annotations

from collections.abc import Iterable


def identifier(name: str) -> str:
    """A name as SQL, always quoted."""
    if "\0" in name or not name:
        raise ValueError("an identifier is never empty and never holds a NUL")
    return '"' + name.replace('"', '""') + '"'


def unquoted(name: str) -> str:
    """The name that the server's own words for one mean, quoted or not."""
    return name[1:-1].replace('""', '"') if name.startswith('"') else name


def qualified(names: Iterable[str]) -> str:
    """`("public", "orders")` as `"public"."orders"`."""
    return ".".join(identifier(name) for name in names)


def literal(text: str) -> str:
    """A text as SQL. Only where the server takes no parameters; everywhere else values are bound."""
    if "\0" in text:
        raise ValueError("a text for PostgreSQL never holds a NUL")
    quoted = "'" + text.replace("'", "''").replace("\\", "\\\\") + "'"
    return f" E{quoted}" if "\\" in text else quoted
