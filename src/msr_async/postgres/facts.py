"""What is in the database that the scripts speak of? One query, which takes no lock on any table."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from .driver import Connection
from .steps import Name

BIG_ROWS = 10_000
BIG_BYTES = 10 * 1024 * 1024

# Sizes are the planner's and the statistics', and a CHECK is the parser's tree, for pg_relation_size and
# pg_get_constraintdef would wait for a table that is locked.
_QUERY = """
WITH RECURSIVE wanted AS (SELECT DISTINCT w.schema, w.name FROM unnest($1::text[], $2::text[]) AS w(schema, name)),
relation AS (
  SELECT DISTINCT c.oid, c.reltype, n.nspname::text AS schema, c.relname::text AS name, c.relkind::text AS kind
  FROM wanted w JOIN pg_catalog.pg_class c ON c.relname = w.name
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f')
    AND (n.nspname = w.schema OR w.schema = '' AND n.nspname = ANY (pg_catalog.current_schemas(true)))),
family AS (
  SELECT oid AS root, oid FROM relation
  UNION SELECT f.root, i.inhrelid FROM family f JOIN pg_catalog.pg_inherits i ON i.inhparent = f.oid),
size AS (
  SELECT f.root, sum(CASE WHEN pg_catalog.pg_stat_get_live_tuples(c.oid) > 0
      THEN pg_catalog.pg_stat_get_live_tuples(c.oid) ELSE greatest(c.reltuples, 0) END)::bigint AS rows,
    sum(c.relpages::bigint + coalesce(t.relpages, 0)) * pg_catalog.current_setting('block_size')::bigint AS bytes,
    {last_read} AS last_read
  FROM family f JOIN pg_catalog.pg_class c ON c.oid = f.oid AND c.relkind IN ('r', 'm', 'f')
    LEFT JOIN pg_catalog.pg_class t ON t.oid = c.reltoastrelid
  GROUP BY f.root),
used AS (
  SELECT r.oid, d.refobjsubid::int AS number, n.nspname::text AS schema, v.relname::text AS name,
    CASE v.relkind WHEN 'm' THEN 'materialized view ' ELSE 'view ' END || n.nspname || '.' || v.relname AS label
  FROM relation r
    JOIN pg_catalog.pg_depend d ON d.refclassid = 'pg_catalog.pg_class'::regclass AND d.refobjid = r.oid
      AND d.classid = 'pg_catalog.pg_rewrite'::regclass
    JOIN pg_catalog.pg_rewrite w ON w.oid = d.objid
    JOIN pg_catalog.pg_class v ON v.oid = w.ev_class AND v.oid <> r.oid AND v.relkind IN ('v', 'm')
    JOIN pg_catalog.pg_namespace n ON n.oid = v.relnamespace
  UNION
  SELECT r.oid, k.number::int, n.nspname::text, o.relname::text,
    'foreign key ' || f.conname || ' of ' || n.nspname || '.' || o.relname
  FROM relation r
    JOIN pg_catalog.pg_constraint f ON f.confrelid = r.oid AND f.contype = 'f' AND f.conrelid <> r.oid
      AND f.conparentid = 0
    CROSS JOIN LATERAL unnest(f.confkey) AS k(number)
    JOIN pg_catalog.pg_class o ON o.oid = f.conrelid JOIN pg_catalog.pg_namespace n ON n.oid = o.relnamespace
  UNION
  SELECT r.oid, CASE WHEN d.refclassid = 'pg_catalog.pg_class'::regclass THEN d.refobjsubid::int ELSE 0 END,
    '', '', pg_catalog.pg_describe_object(d.classid, d.objid, 0)
  FROM relation r
    JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_proc'::regclass AND d.deptype = 'n'
      AND (d.refclassid = 'pg_catalog.pg_class'::regclass AND d.refobjid = r.oid
        OR d.refclassid = 'pg_catalog.pg_type'::regclass AND d.refobjid = r.reltype))
SELECT 'relation' AS what, jsonb_build_object(
    'schema', r.schema, 'name', r.name, 'kind', r.kind, 'rows', coalesce(s.rows, 0), 'bytes', coalesce(s.bytes, 0),
    'last_read', s.last_read,
    'columns', (SELECT jsonb_object_agg(a.attname, jsonb_build_array(
        a.attnum, pg_catalog.format_type(a.atttypid, a.atttypmod),
        a.attnotnull AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint k
          WHERE k.conrelid = r.oid AND k.contype = 'n' AND NOT k.convalidated AND k.conkey[1] = a.attnum)))
      FROM pg_catalog.pg_attribute a WHERE a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped),
    'checks', (SELECT jsonb_agg(jsonb_build_array(k.conname, k.convalidated, k.conkey, k.conbin::text))
      FROM pg_catalog.pg_constraint k WHERE k.conrelid = r.oid AND k.contype IN ('c', 'n')),
    'used', (SELECT jsonb_agg(jsonb_build_array(a.attname, u.schema, u.name, u.label) ORDER BY u.label)
      FROM used u LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = r.oid AND a.attnum = u.number AND u.number > 0
      WHERE u.oid = r.oid))::text AS fact
  FROM relation r LEFT JOIN size s ON s.root = r.oid
UNION ALL SELECT DISTINCT 'function', p.proname::text FROM pg_catalog.pg_proc p
  WHERE p.proname = ANY ($3::text[]) AND p.provolatile = 'v'
UNION ALL SELECT 'session', jsonb_build_object('path', pg_catalog.current_schemas(true)::text[],
    'timezone', pg_catalog.current_setting('TimeZone'))::text
"""
# pg_stat_get_lastscan came with 16
_LAST_READ = """max(greatest(pg_catalog.pg_stat_get_lastscan(c.oid),
      (SELECT max(pg_catalog.pg_stat_get_lastscan(x.indexrelid))
        FROM pg_catalog.pg_index x WHERE x.indrelid = c.oid)))"""
_UTC = {"UTC", "Etc/UTC", "GMT", "Etc/GMT", "UCT", "Etc/UCT", "Zulu", "Etc/Zulu", "Universal", "Etc/Universal"}


@dataclass(frozen=True, kw_only=True)
class User:
    """A view, a foreign key or a function that needs a table, or one column of it."""

    label: str
    owner: Name
    """The view, or the foreign key's table; empty for a function."""
    column: str = ""


@dataclass(frozen=True, kw_only=True)
class Relation:
    """A table, or what is like one, with the sizes of its partitions summed up."""

    name: Name
    kind: str = "r"
    """`pg_class.relkind`."""
    rows: int = 0
    """About so many."""
    bytes: int = 0
    types: Mapping[str, str] = field(default_factory=dict)
    not_null: frozenset[str] = frozenset()
    """Columns that are, or that a validated CHECK says are."""
    unproved: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """By the name of a constraint that is not validated: the columns it will prove."""
    users: tuple[User, ...] = ()
    last_read: datetime | None = None

    @property
    def holds_rows(self) -> bool:
        return self.rows > 0 or self.bytes > 0

    @property
    def big(self) -> bool:
        return self.rows >= BIG_ROWS or self.bytes >= BIG_BYTES

    @property
    def amount(self) -> str:
        return f"about {self.rows:,} rows" if self.rows else f"{self.bytes / 1_048_576:,.1f} MiB"

    def __str__(self) -> str:
        return f"{self.name} ({self.amount})" if self.holds_rows else str(self.name)


@dataclass(kw_only=True)
class Facts:
    """What is known of the database. It is kept up to date by the rules, as they read what the scripts do."""

    relations: dict[Name, Relation] = field(default_factory=dict)
    """By full name."""
    path: tuple[str, ...] = ("pg_catalog", "public")
    gone: set[Name] = field(default_factory=set)
    """Full names that the scripts have dropped."""
    volatile: frozenset[str] = frozenset()
    """Names of functions of which the database has a volatile one."""
    utc: bool = False
    server: int = 0
    """The server's major version; 0 when it is not known."""

    def find(self, name: Name, path: tuple[str, ...] | None = None) -> Relation | None:
        """The relation that a script means, or None: it is not there (yet), so nobody waits for it."""
        schemas = (name.schema,) if name.schema else self.path if path is None else path
        return next((found for schema in schemas if (found := self.relations.get(Name(schema, name.name)))), None)


async def gather(connection: Connection, names: Iterable[Name], functions: Iterable[str]) -> Facts:
    """The facts of these tables and functions, in one query."""
    server = connection.get_server_version().major
    query = _QUERY.format(last_read=_LAST_READ if server >= 16 else "NULL::timestamptz")
    wanted = sorted(set(names), key=str)
    rows = await connection.fetch(
        query, [name.schema for name in wanted], [name.name for name in wanted], sorted(set(functions))
    )
    facts = Facts(server=server, volatile=frozenset(row["fact"] for row in rows if row["what"] == "function"))
    for row in rows:
        if row["what"] == "relation":
            relation = _relation(json.loads(row["fact"]))
            facts.relations[relation.name] = relation
        elif row["what"] == "session":
            session = json.loads(row["fact"])
            facts.path = tuple(session["path"])
            facts.utc = session["timezone"] in _UTC
    return facts


def _relation(fact: Any) -> Relation:
    columns: dict[str, list[Any]] = fact["columns"] or {}
    proved = {column for column, (_, _, not_null) in columns.items() if not_null}
    names = {number: column for column, (number, _, _) in columns.items()}
    unproved: dict[str, tuple[str, ...]] = {}
    for constraint, valid, numbers, tree in fact["checks"] or ():
        # one without an expression is NOT NULL itself, which is a constraint since PostgreSQL 18
        says = tuple(names[number] for number in (numbers if tree is None else vouched_for(tree)))
        if valid:
            proved.update(says)
        else:
            unproved[constraint] = says
    return Relation(
        name=Name(fact["schema"], fact["name"]),
        kind=fact["kind"],
        rows=fact["rows"],
        bytes=fact["bytes"],
        types={column: kind for column, (_, kind, _) in columns.items()},
        not_null=frozenset(proved),
        unproved=unproved,
        users=tuple(
            User(label=label, owner=Name(schema, name), column=column or "")
            for column, schema, name, label in fact["used"] or ()
        ),
        last_read=datetime.fromisoformat(fact["last_read"]) if fact["last_read"] else None,
    )


_BRACE = re.compile(r"[{}]")
_NOT_NULL = re.compile(r"\{NULLTEST :arg \{VAR :varno 1 :varattno (\d+) [^{}]*\} :nulltesttype 1 ")


def vouched_for(tree: str) -> Iterator[int]:
    """The numbers of the columns that a CHECK says are not null: `a IS NOT NULL`, alone or in the outermost AND.

    The server proves no more than this either: a comparison is null, and so passes, where the column is.
    """
    depth, wanted = 0, 2 if tree.startswith("{BOOLEXPR :boolop and ") else 1
    for brace in _BRACE.finditer(tree):
        depth += 1 if brace.group() == "{" else -1
        if brace.group() == "{" and depth == wanted and (found := _NOT_NULL.match(tree, brace.start())):
            yield int(found[1])
