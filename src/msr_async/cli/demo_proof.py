"""The demo's proof: what a database holds, as one hash per table and one of its schema, computed by the server.

Independent of the library on purpose: it uses nothing but SQL.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import asyncpg


@dataclass(frozen=True, kw_only=True)
class Content:
    """A table (or another thing) as counted and hashed."""

    rows: int
    digest: str


@dataclass(frozen=True, kw_only=True)
class Compared:
    name: str
    before: Content | None
    after: Content | None

    @property
    def same(self) -> bool:
        return self.before is not None and self.before == self.after


SCHEMA = "(schema)"

_TABLES = """
SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'm') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' ORDER BY 1
"""

# The sorted hashes of all rows, hashed: the order of rows does not matter, every byte of every row does.
_ROWS = "SELECT count(*), left(md5(string_agg(h, '' ORDER BY h)), 12) FROM (SELECT md5(t::text) AS h FROM {table} t) x"

_SCHEMA = """
WITH ours AS (
  SELECT c.oid, c.oid::regclass::text AS name, c.relkind FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
), facts AS (
  SELECT format('column %s %s %s %s not null %s default %s %s%s', o.name,
      row_number() OVER (PARTITION BY o.oid ORDER BY a.attnum), a.attname, format_type(a.atttypid, a.atttypmod),
      a.attnotnull, pg_get_expr(d.adbin, d.adrelid), a.attgenerated, a.attidentity)
    FROM ours o JOIN pg_attribute a ON a.attrelid = o.oid AND a.attnum > 0 AND NOT a.attisdropped
    LEFT JOIN pg_attrdef d ON d.adrelid = o.oid AND d.adnum = a.attnum
  UNION ALL SELECT format('%s %s %s', o.name, o.relkind, pg_get_expr(c.relpartbound, c.oid))
    FROM ours o JOIN pg_class c USING (oid)
  UNION ALL SELECT format('constraint %s %s %s', o.name, k.conname, pg_get_constraintdef(k.oid))
    FROM ours o JOIN pg_constraint k ON k.conrelid = o.oid
  UNION ALL SELECT pg_get_indexdef(oid) FROM ours WHERE relkind = 'i'
  UNION ALL SELECT pg_get_viewdef(oid) FROM ours WHERE relkind = 'm'
  UNION ALL SELECT format('enum %s %s', e.enumtypid::regtype, string_agg(e.enumlabel, ',' ORDER BY e.enumsortorder))
    FROM pg_enum e GROUP BY e.enumtypid
  UNION ALL SELECT format('sequence %s.%s %s', schemaname, sequencename, last_value) FROM pg_sequences
)
SELECT count(*), left(md5(string_agg(format, E'\\n' ORDER BY format)), 12) FROM facts
"""


async def contents(dsn: str) -> dict[str, Content]:
    """What the database holds, by table name; `SCHEMA` stands for columns, types, keys, indexes and sequences."""
    connection = await asyncpg.connect(dsn, server_settings={"search_path": "", "work_mem": "64MB"})
    try:
        found: dict[str, Content] = {}
        for record in await connection.fetch(_TABLES):
            # regclass::text is a quoted name already
            found[record[0]] = await _content(connection, _ROWS.format(table=record[0]))
        return found | {SCHEMA: await _content(connection, _SCHEMA)}
    finally:
        connection.terminate()


async def _content(connection: asyncpg.Connection[asyncpg.Record], query: str) -> Content:
    record = await connection.fetchrow(query)
    assert record is not None  # an aggregate always gives a row
    return Content(rows=record[0], digest=record[1] or "(no rows)")


def compare(before: dict[str, Content], after: dict[str, Content]) -> Sequence[Compared]:
    names = [*sorted({*before, *after} - {SCHEMA}), SCHEMA]
    return [Compared(name=name, before=before.get(name), after=after.get(name)) for name in names]
