"""Whether a restore can succeed: asked before the backup that a run would go back to, and again before the restore."""

from __future__ import annotations

from ..errors import PermissionMissing, RestoreFailed
from .driver import Connection

_LOCKS = """
SELECT current_setting('max_locks_per_transaction')::bigint * (current_setting('max_connections')::bigint
         + current_setting('max_prepared_transactions')::bigint) AS most,
       (SELECT count(*) FROM pg_catalog.pg_class WHERE oid >= 16384) AS present,
       (SELECT count(*) FROM pg_catalog.pg_largeobject_metadata) AS large_objects
"""
# DROP and ALTER ... OWNER TO want a member of the owning role
_FOREIGN = """
SELECT pg_catalog.pg_describe_object(o.class, o.oid, 0) || ' of ' || pg_catalog.pg_get_userbyid(o.owner)
FROM (
  SELECT 'pg_catalog.pg_class'::regclass AS class, oid, relowner AS owner FROM pg_catalog.pg_class
    WHERE relnamespace IN (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema')
      AND relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
  UNION ALL SELECT 'pg_catalog.pg_proc'::regclass, oid, proowner FROM pg_catalog.pg_proc
    WHERE pronamespace IN (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema')
  UNION ALL SELECT 'pg_catalog.pg_namespace'::regclass, oid, nspowner FROM pg_catalog.pg_namespace
    WHERE nspname !~ '^pg_' AND nspname NOT IN ('information_schema', 'public')
  UNION ALL SELECT 'pg_catalog.pg_event_trigger'::regclass, oid, evtowner FROM pg_catalog.pg_event_trigger
  UNION ALL SELECT 'pg_catalog.pg_largeobject'::regclass, oid, lomowner FROM pg_catalog.pg_largeobject_metadata
) o
WHERE NOT pg_catalog.pg_has_role(o.owner, 'USAGE')
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = o.class AND d.objid = o.oid AND d.deptype = 'e')
LIMIT 6
"""


async def check_locks(connection: Connection, *, relations: int, large_objects: int) -> None:
    """Raises:
    RestoreFailed: when dropping what is there and making this many things takes more locks than the server has.
    """
    row = await connection.fetchrow(_LOCKS)
    assert row is not None
    # a relation and its TOAST table and index; measured: about five locks a table with its index
    needed = row["present"] + row["large_objects"] + 2 * relations + large_objects
    if needed > row["most"] * 0.9:
        raise RestoreFailed(
            f"Restoring in one transaction takes about {needed:,} locks, and the server has room for {row['most']:,}.",
            hint="Raise max_locks_per_transaction and restart the server.",
        )


async def check_way_back(connection: Connection) -> None:
    """Could this role put back what the database holds now?

    Raises:
        PermissionMissing: naming what belongs to others.
        RestoreFailed: when the server's lock table is too small for it.
    """
    foreign = [row[0] for row in await connection.fetch(_FOREIGN)]
    if foreign:
        more = " ..." if len(foreign) > 5 else ""
        raise PermissionMissing(
            f"This role could make the backup but not go back to it: it may not drop {', '.join(foreign[:5])}{more}.",
            hint="Use the owner's role or a superuser, or migrate with the rollback strategy down or none.",
        )
    relations = await connection.fetchval(
        "SELECT count(*) FROM pg_catalog.pg_class WHERE oid >= 16384 AND relkind <> 't'"
    )
    large = await connection.fetchval("SELECT count(*) FROM pg_catalog.pg_largeobject_metadata")
    await check_locks(connection, relations=relations, large_objects=large)
