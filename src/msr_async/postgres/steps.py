"""The statements that the rules of `linting` know, as values.

Names are as the server sees them: folded to lower case unless quoted, cut to 63 bytes.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Literal

from .lexing import Token


@dataclass(frozen=True)
class Name:
    schema: str
    """Empty where none was written: found by the search path."""
    name: str

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}" if self.schema else self.name


@dataclass(frozen=True, kw_only=True)
class Step:
    """One action on one table. `offset` is where it stands in the script, in characters."""

    offset: int
    table: Name


@dataclass(frozen=True, kw_only=True)
class AddColumn(Step):
    column: str
    type: tuple[Token, ...]
    default: tuple[Token, ...] = ()
    default_text: str = ""
    generated: Literal["", "identity", "stored"] = ""
    constraints: frozenset[str] = frozenset()
    """Of `check`, `unique`, `primary`, `references`."""

    @property
    def calls(self) -> tuple[str, ...]:
        """The functions that its default calls."""
        return tuple(
            token.text
            for token, following in itertools.pairwise(self.default)
            if token.kind in ("word", "name") and following.text == "("
        )


@dataclass(frozen=True, kw_only=True)
class SetNotNull(Step):
    """`ALTER COLUMN ... SET NOT NULL`, or the constraint of PostgreSQL 18, which has a name and may be NOT VALID."""

    column: str
    constraint: str = ""
    valid: bool = True


@dataclass(frozen=True, kw_only=True)
class ChangeType(Step):
    column: str
    type: tuple[Token, ...]
    type_text: str
    using: tuple[Token, ...] = ()


@dataclass(frozen=True, kw_only=True)
class AddConstraint(Step):
    kind: str
    """`CHECK`, `FOREIGN KEY`, `UNIQUE`, `PRIMARY KEY`."""
    constraint: str
    valid: bool
    by_index: bool
    not_null: tuple[str, ...] = ()
    """Columns of which a CHECK says that they are not null."""


@dataclass(frozen=True, kw_only=True)
class ValidateConstraint(Step):
    constraint: str


@dataclass(frozen=True, kw_only=True)
class DropColumn(Step):
    column: str
    cascade: bool


@dataclass(frozen=True, kw_only=True)
class RenameColumn(Step):
    column: str
    to: str


@dataclass(frozen=True, kw_only=True)
class RenameTable(Step):
    """Also `SET SCHEMA`: in both cases the old name is gone."""

    to: Name


@dataclass(frozen=True, kw_only=True)
class OtherChange(Step):
    """Another DDL statement about a table that exists, such as SET DEFAULT or TRUNCATE."""

    exclusive: bool
    """It takes ACCESS EXCLUSIVE."""


@dataclass(frozen=True, kw_only=True)
class CreateIndex(Step):
    unique: bool
    concurrently: bool
    only: bool


@dataclass(frozen=True, kw_only=True)
class CreateView(Step):
    """`table` is the view."""


@dataclass(frozen=True, kw_only=True)
class DropRelation(Step):
    word: str
    """`TABLE`, `VIEW`, `MATERIALIZED VIEW`, `FOREIGN TABLE`."""
    cascade: bool


@dataclass(frozen=True, kw_only=True)
class WriteAll(Step):
    """An UPDATE or a DELETE without WHERE."""

    verb: str


@dataclass(frozen=True, kw_only=True)
class SetPath(Step):
    """`SET search_path`; `table` means nothing."""

    schemas: tuple[str, ...]
