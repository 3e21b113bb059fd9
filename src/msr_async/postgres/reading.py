"""What does a statement of DDL say? A few shapes, never the whole grammar. Pure.

Only what the rules of `linting` ask for is read; any other statement yields nothing, any other action `OtherChange`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Literal

from .lexing import Token, tokens
from .statements import split
from .steps import (
    AddColumn,
    AddConstraint,
    ChangeType,
    CreateIndex,
    CreateView,
    DropColumn,
    DropRelation,
    Name,
    OtherChange,
    RenameColumn,
    RenameTable,
    SetNotNull,
    SetPath,
    Step,
    ValidateConstraint,
    WriteAll,
)

_FIRST = {"ALTER", "CREATE", "DELETE", "DROP", "SET", "TRUNCATE", "UPDATE"}
_COLUMN_CLAUSES = {
    *("collate", "compression", "constraint", "not", "null", "check", "default", "generated", "unique", "primary"),
    *("references", "deferrable", "initially", "storage", "options"),
}
# https://www.postgresql.org/docs/current/sql-altertable.html: the forms that say they take a weaker lock
_WEAKER: set[tuple[str, ...]] = {
    *(("attach",), ("detach",), ("cluster",), ("set", "("), ("reset", "("), ("set", "without", "cluster")),
    *(("disable", "trigger"), ("enable", "trigger"), ("enable", "replica", "trigger"), ("enable", "always", "trigger")),
}
_WEAKER_OF_A_COLUMN: set[tuple[str, ...]] = {("set", "statistics"), ("set", "("), ("reset", "(")}


def read(sql: str) -> tuple[Step, ...]:
    """The steps of a script, in order."""
    found: list[Step] = []
    for statement in split(sql):
        first = statement.words[0] if statement.words else ""
        # a function's body may be long, and nothing in it is run now
        if first in _FIRST and not (first == "CREATE" and not {"INDEX", "VIEW"} & set(statement.words)):
            found.extend(_Reader(statement.text, statement.offset).steps())
    return tuple(found)


def not_null_columns(condition: Sequence[Token]) -> tuple[str, ...]:
    """The columns that a CHECK's condition proves to be not null: `a IS NOT NULL`, alone or joined by AND.

    The server proves no more than this either: a comparison is null, and so passes, where the column is.
    """
    plain = [token for token in condition if token.text not in ("(", ")") or token.kind != "sign"]
    if any(token.kind == "word" and token.text == "or" for token in plain):
        return ()
    groups: list[list[Token]] = [[]]
    for token in plain:
        if token.kind == "word" and token.text == "and":
            groups.append([])
        else:
            groups[-1].append(token)
    return tuple(
        group[0].text
        for group in groups
        if len(group) == 4 and [token.text for token in group[1:]] == ["is", "not", "null"]
    )


class _Reader:
    """Walks over the tokens of one statement."""

    def __init__(self, text: str, offset: int) -> None:
        self._text = text
        self._offset = offset
        self._tokens = list(tokens(text))
        self._at = 0

    def steps(self) -> Iterator[Step]:
        if self._take("alter"):
            word = self._relation_word()
            if word:
                yield from self._alter(word)
        elif self._take("create"):
            yield from self._create()
        elif self._take("drop"):
            yield from self._drop()
        elif self._take("update") or self._take("delete", "from"):
            yield from self._write()
        elif self._take("truncate"):
            self._take("table")
            for offset, table in self._names():
                yield OtherChange(offset=offset, table=table, exclusive=True)
        elif self._take("set"):
            yield from self._set()

    def _relation_word(self) -> str:
        for words in (("table",), ("view",), ("materialized", "view"), ("foreign", "table")):
            if self._take(*words):
                return " ".join(words).upper()
        return ""

    def _alter(self, word: str) -> Iterator[Step]:
        self._take("if", "exists")
        self._take("only")
        offset, table = self._here(), self._name()
        if table is None or self._word() == "in":  # ALTER TABLE ALL IN TABLESPACE
            return
        self._take("*")
        if self._take("rename", "to"):
            yield RenameTable(offset=offset, table=table, to=Name(table.schema, self._identifier()))
        elif self._take("set", "schema"):
            yield RenameTable(offset=offset, table=table, to=Name(self._identifier(), table.name))
        elif self._take("rename", "constraint"):
            yield OtherChange(offset=offset, table=table, exclusive=True)
        elif self._take("rename"):
            self._take("column")
            column = self._identifier()
            self._take("to")
            yield RenameColumn(offset=offset, table=table, column=column, to=self._identifier())
        elif word in ("TABLE", "FOREIGN TABLE"):
            while self._more():
                end = self._clause_end()
                yield self._action(table, end)
                self._at = end + 1

    def _action(self, table: Name, end: int) -> Step:
        offset = self._here()
        if self._take("add"):
            if step := self._added_constraint(table, offset, end):
                return step
            self._take("column")
            self._take("if", "not", "exists")
            return self._added_column(table, offset, end)
        if self._take("alter"):
            self._take("column")
            column = self._identifier()
            if self._take("set", "not", "null"):
                return SetNotNull(offset=offset, table=table, column=column)
            if self._take("type") or self._take("set", "data", "type"):
                return self._changed_type(table, offset, column, end)
            return OtherChange(offset=offset, table=table, exclusive=not self._begins(_WEAKER_OF_A_COLUMN))
        if self._take("validate", "constraint"):
            return ValidateConstraint(offset=offset, table=table, constraint=self._identifier())
        if self._word() == "drop" and not self._looks("drop", "constraint"):
            self._take("drop")
            self._take("column")
            self._take("if", "exists")
            column = self._identifier()
            return DropColumn(offset=offset, table=table, column=column, cascade=self._take("cascade"))
        return OtherChange(offset=offset, table=table, exclusive=not self._begins(_WEAKER))

    def _added_constraint(self, table: Name, offset: int, end: int) -> Step | None:
        name = self._identifier() if self._take("constraint") else ""
        words = [self._tokens[i].text for i, depth in self._depths(self._at, end) if depth == 0]
        # NOT ENFORCED came with 18: nothing is looked at either
        valid = not {("not", "valid"), ("not", "enforced")} & set(itertools.pairwise(words))
        if self._take("not", "null"):
            return SetNotNull(offset=offset, table=table, column=self._identifier(), constraint=name, valid=valid)
        for kind in ("CHECK", "FOREIGN KEY", "UNIQUE", "PRIMARY KEY"):
            if self._take(*kind.lower().split()):
                return AddConstraint(
                    offset=offset,
                    table=table,
                    kind=kind,
                    constraint=name,
                    valid=valid,
                    by_index=self._looks("using", "index"),
                    not_null=not_null_columns(self._parenthesised()) if kind == "CHECK" else (),
                )
        if name or self._looks("exclude", "using") or self._looks("exclude", "("):
            return OtherChange(offset=offset, table=table, exclusive=True)
        return None

    def _added_column(self, table: Name, offset: int, end: int) -> AddColumn:
        column = self._identifier()
        clauses = list(self._clauses(end))
        words = {first.text for first, _ in clauses[1:]}
        generated: Literal["", "identity", "stored"] = ""
        default: tuple[Token, ...] = ()
        for first, rest in clauses[1:]:
            if first.text == "default":
                default = rest
            elif first.text == "generated":
                said = {token.text for token in rest if token.kind == "word"}
                generated = "identity" if "identity" in said else "stored" if "stored" in said else ""
        return AddColumn(
            offset=offset,
            table=table,
            column=column,
            type=clauses[0][1],
            default=default,
            default_text=self._source(default),
            generated=generated,
            constraints=frozenset(words & {"check", "unique", "primary", "references"}),
        )

    def _clauses(self, end: int) -> Iterator[tuple[Token, tuple[Token, ...]]]:
        """A column's definition cut before each clause: the type first, then every clause with its first word."""
        start = self._at
        for index, depth in self._depths(self._at, end):
            if index == start or depth > 0 or not self._is(index, *_COLUMN_CLAUSES):
                continue
            # neither GENERATED BY DEFAULT nor ON DELETE SET DEFAULT begins a clause
            if not (self._is(index, "default") and self._is(index - 1, "by", "set")):
                yield self._tokens[start], tuple(self._tokens[start + (start > self._at) : index])
                start = index
        if start < end:
            yield self._tokens[start], tuple(self._tokens[start + (start > self._at) : end])
        else:
            yield Token("word", "", 0, 0), ()

    def _changed_type(self, table: Name, offset: int, column: str, end: int) -> ChangeType:
        using = next((i for i in range(self._at, end) if self._is(i, "using")), end)
        stop = next((i for i in range(self._at, using) if self._is(i, "collate")), using)
        kind = tuple(self._tokens[self._at : stop])
        return ChangeType(
            offset=offset,
            table=table,
            column=column,
            type=kind,
            type_text=self._source(kind),
            using=tuple(self._tokens[using + 1 : end]),
        )

    def _create(self) -> Iterator[Step]:
        unique = self._take("unique")
        if self._take("index"):
            concurrently = self._take("concurrently")
            self._take("if", "not", "exists")
            while self._more() and not self._take("on"):
                self._at += 1
            only = self._take("only")
            offset, table = self._offset, self._name()
            if table is not None:
                yield CreateIndex(offset=offset, table=table, unique=unique, concurrently=concurrently, only=only)
            return
        self._take("or", "replace")
        self._take("recursive")
        if self._take("view") and (view := self._name()):
            yield CreateView(offset=self._offset, table=view)

    def _drop(self) -> Iterator[Step]:
        if word := self._relation_word():
            self._take("if", "exists")
            cascade = self._tokens[-1].kind == "word" and self._tokens[-1].text == "cascade"
            for offset, table in self._names():
                yield DropRelation(offset=offset, table=table, word=word, cascade=cascade)

    def _names(self) -> Iterator[tuple[int, Name]]:
        """A list of names, each with its place."""
        more = True
        while more:
            self._take("only")
            offset, table = self._here(), self._name()
            if table is not None:
                yield offset, table
            self._take("*")
            more = table is not None and self._take(",")

    def _write(self) -> Iterator[Step]:
        verb = self._tokens[0].text.upper()
        self._take("only")
        table = self._name()
        outside = (self._tokens[i] for i, depth in self._depths(self._at, len(self._tokens)) if depth == 0)
        if table is not None and not any(token.kind == "word" and token.text == "where" for token in outside):
            yield WriteAll(offset=self._offset, table=table, verb=verb)

    def _set(self) -> Iterator[Step]:
        if not self._take("local"):
            self._take("session")
        if self._take("search_path"):
            names = [token for token in self._tokens[self._at :] if token.text not in (",", "=", "to", "default")]
            schemas = tuple(token.text.strip("'") for token in names)
            yield SetPath(offset=self._offset, table=Name("", ""), schemas=schemas)

    # -- the tokens ahead

    def _more(self) -> bool:
        return self._at < len(self._tokens)

    def _here(self) -> int:
        """Where the next token stands in the script."""
        return self._offset + (self._tokens[self._at].start if self._more() else len(self._text))

    def _word(self) -> str:
        return self._tokens[self._at].text if self._more() and self._tokens[self._at].kind == "word" else ""

    def _is(self, index: int, *texts: str) -> bool:
        """Whether a token is one of these words or signs, and not a name or a string that looks like it."""
        token = self._tokens[index]
        return token.text in texts and token.kind in ("word", "sign")

    def _looks(self, *words: str) -> bool:
        ahead = self._tokens[self._at : self._at + len(words)]
        return tuple(token.text for token in ahead if token.kind in ("word", "sign")) == words

    def _begins(self, shapes: set[tuple[str, ...]]) -> bool:
        return any(self._looks(*shape) for shape in shapes)

    def _take(self, *words: str) -> bool:
        if not self._looks(*words):
            return False
        self._at += len(words)
        return True

    def _identifier(self) -> str:
        if not self._more() or self._tokens[self._at].kind not in ("word", "name"):
            return ""
        self._at += 1
        return self._tokens[self._at - 1].text.encode()[:63].decode(errors="ignore")

    def _name(self) -> Name | None:
        parts = [self._identifier()]
        while self._take("."):
            parts.append(self._identifier())
        return Name(parts[-2] if len(parts) > 1 else "", parts[-1]) if parts[-1] else None

    def _depths(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Each token's index with the number of parentheses around it."""
        depth = 0
        for index in range(start, end):
            token = self._tokens[index]
            opens, closes = token.text in ("(", "["), token.text in (")", "]")
            depth -= closes and token.kind == "sign"
            yield index, depth
            depth += opens and token.kind == "sign"

    def _clause_end(self) -> int:
        end = len(self._tokens)
        return next((i for i, depth in self._depths(self._at, end) if depth == 0 and self._is(i, ",")), end)

    def _parenthesised(self) -> list[Token]:
        end = next((i for i, d in self._depths(self._at, len(self._tokens)) if d == 0 and i > self._at), self._at)
        return self._tokens[self._at : end + 1]

    def _source(self, part: Sequence[Token]) -> str:
        """The tokens as they were written, on one line."""
        return " ".join(self._text[part[0].start : part[-1].end].split()) if part else ""
