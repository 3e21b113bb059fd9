"""Which tables hold rows to carry, and how they are cut into parts. One query, and pure decisions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from typing import TypeAlias

from msgspec import Struct

from ..models import Column, Part, Selection
from .quoting import identifier, qualified

TABLE, CONFIG_TABLE, LARGE_OBJECTS = "table", "extension_table", "large_objects"
LARGE_OBJECT_COLUMNS = (
    Column(name="oid", type="oid"),
    Column(name="offset", type="bigint"),
    Column(name="data", type="bytea"),
)

_PAGE = 8192
_MIN_SLICE = 32 * 1024 * 1024
_LO_PIECE = 262_144

# Leaf tables only: a partitioned root has no rows of its own. Of an extension's tables only those that it marked as
# holding the user's configuration, with the condition that it gave (pg_extension_config_dump).
_IDENTITY = "SELECT c.oid, n.nspname AS schema, c.relname AS name, c.relkind::text AS kind"
_FROM = """
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN LATERAL (
  SELECT x.oid, x.extcondition[array_position(x.extconfig, c.oid)] AS condition FROM pg_catalog.pg_extension x WHERE c.oid = ANY (x.extconfig)
) e ON true
WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
  AND (e.oid IS NOT NULL OR NOT EXISTS (
    SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'))
ORDER BY c.oid
"""
# Planning a query, as a slice is one, takes the bodies of SQL functions into a table's index expressions and statistics;
# under an empty search_path a body may find nothing. A COPY of the whole table is never planned.
_PLANNED_WITH_SQL = """EXISTS (
    SELECT FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_proc f ON d.refclassid = 'pg_catalog.pg_proc'::regclass AND f.oid = d.refobjid
      JOIN pg_catalog.pg_language l ON l.oid = f.prolang AND l.lanname = 'sql'
    WHERE (d.classid, d.objid) IN (SELECT 'pg_catalog.pg_class'::regclass, indexrelid FROM pg_catalog.pg_index WHERE indrelid = c.oid
      UNION ALL SELECT 'pg_catalog.pg_statistic_ext'::regclass, oid FROM pg_catalog.pg_statistic_ext WHERE stxrelid = c.oid))"""
IDENTITIES = _IDENTITY + _FROM
"""Enough to lock them by."""
QUERY = f"""{_IDENTITY}, coalesce(e.condition, '') AS condition, e.oid IS NOT NULL AS config,
  coalesce(pg_catalog.pg_relation_size(c.oid), 0) AS heap, coalesce(pg_catalog.pg_table_size(c.oid), 0) AS total,
  c.relkind = 'r' AND c.relam = (SELECT oid FROM pg_catalog.pg_am WHERE amname = 'heap') AND NOT {_PLANNED_WITH_SQL} AS sliceable,
  pg_catalog.row_security_active(c.oid) AS hidden_rows,
  (SELECT format('%s.%s', rn.nspname, r.relname) FROM pg_catalog.pg_class r JOIN pg_catalog.pg_namespace rn ON rn.oid = r.relnamespace
     WHERE r.oid = pg_catalog.pg_partition_root(c.oid)) AS root,
  (SELECT array_agg(a.attname::text ORDER BY a.attnum) FROM pg_catalog.pg_attribute a
     WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '') AS columns,
  (SELECT array_agg(pg_catalog.format_type(a.atttypid, a.atttypmod) ORDER BY a.attnum) FROM pg_catalog.pg_attribute a
     WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '') AS types{_FROM}"""

LARGE_OBJECT_BYTES = "SELECT coalesce(sum(relpages), 0)::bigint * 2048 FROM pg_catalog.pg_class WHERE relname = 'pg_largeobject' AND relnamespace = 'pg_catalog'::regnamespace"


Identity: TypeAlias = tuple[int, str, str, str]


class Table(Struct, frozen=True, kw_only=True):
    """A table as the catalogue tells of it. `kind` is pg_class's letter: r has rows, p is a partitioned root."""

    oid: int
    schema: str
    name: str
    kind: str
    config: bool
    condition: str
    heap: int
    total: int
    sliceable: bool
    hidden_rows: bool
    root: str | None
    columns: tuple[Column, ...]

    @property
    def names(self) -> tuple[str, str]:
        return (self.schema, self.name)

    @property
    def label(self) -> str:
        return f"{self.schema}.{self.name}"

    @property
    def identity(self) -> Identity:
        """What must be the same before and after the locks are taken."""
        return (self.oid, self.kind, self.schema, self.name)


def wanted(table: Table, selection: Selection) -> bool:
    """Patterns match a table's qualified name, or its partitioned root's."""
    included = not selection.include or any(_meant(table, pattern) for pattern in selection.include)
    return included and not any(_meant(table, pattern) for pattern in selection.exclude)


def unmatched(tables: Sequence[Table], selection: Selection) -> tuple[str, ...]:
    """The patterns that mean none of the tables."""
    patterns = (*selection.include, *selection.exclude)
    return tuple(pattern for pattern in patterns if not any(_meant(table, pattern) for table in tables))


def _meant(table: Table, pattern: str) -> bool:
    return fnmatchcase(table.label, pattern) or (table.root is not None and fnmatchcase(table.root, pattern))


def cut(tables: Sequence[Table], *, workers: int = 4) -> list[Part]:
    """Parts, the biggest tables first and a table's slices in their order on disk."""
    total = sum(table.heap for table in tables)
    # about four slices a worker keep the last one from being waited for; smaller ones only cost statements
    size = max(_MIN_SLICE, total // (workers * 4))
    parts: list[Part] = []
    for table in sorted(tables, key=lambda table: table.total, reverse=True):
        kind = CONFIG_TABLE if table.config else TABLE
        count = max(1, round(table.heap / size)) if table.sliceable and not table.config else 1
        for piece in _slices(table.heap // _PAGE, count):
            parts.append(
                Part(kind=kind, names=table.names, columns=table.columns, slice=piece, estimate=table.total // count)
            )
    return parts


def _slices(pages: int, count: int) -> Iterator[str]:
    if count == 1:
        yield ""
        return
    edges = [pages * index // count for index in range(count)]
    for index, first in enumerate(edges):
        # the last one is open: nothing that the snapshot sees stands behind it, and no assumption is needed
        yield f"{first}-{edges[index + 1]}" if index + 1 < count else f"{first}-"


def query(part: Part, table: Table | None) -> str | None:
    """The query whose rows are the part's; None where it is a table with all of its rows."""
    if part.kind == LARGE_OBJECTS:
        # sizes come from seeking to each one's end; the descriptors go with the transaction. An empty one gives one empty piece.
        return (
            f"SELECT l.oid, p.at, pg_catalog.lo_get(l.oid, p.at, {_LO_PIECE}) FROM (SELECT oid, pg_catalog.lo_lseek64("
            "pg_catalog.lo_open(oid, 262144), 0, 2) AS size FROM pg_catalog.pg_largeobject_metadata ORDER BY oid OFFSET 0) l "
            f"CROSS JOIN LATERAL pg_catalog.generate_series(0::bigint, greatest(l.size - 1, 0), {_LO_PIECE}) p(at)"
        )
    condition = table.condition if table is not None else ""
    if not part.slice and not condition:
        return None
    columns = ", ".join(identifier(column.name) for column in part.columns)
    asked = f"SELECT {columns} FROM ONLY {qualified(part.names)}"
    if part.slice:
        first, _, end = part.slice.partition("-")
        asked += f" WHERE ctid >= '({first},0)'::pg_catalog.tid"
        asked += f" AND ctid < '({end},0)'::pg_catalog.tid" if end else ""
    return f"{asked} {condition}".rstrip()
