"""Take out of a database everything that a user put there, so that a restore starts from nothing. All in one transaction.

What extensions own stays as long as the extension does; `public` stays and is set back to what initdb made of it.
"""

from __future__ import annotations

from collections.abc import Mapping

from .driver import Connection
from .quoting import identifier

# One row a thing to drop, in an order in which IF EXISTS and CASCADE are enough. Things that are part of another (an
# identity's sequence, an array's type) carry an internal dependency and go with it.
_DROPS = r"""
WITH tied AS MATERIALIZED (
  SELECT DISTINCT classid, objid FROM pg_depend WHERE deptype IN ('e', 'i') AND objsubid = 0
), leaving AS MATERIALIZED (
  SELECT oid FROM pg_extension WHERE oid >= 16384 AND (extname, extnamespace::regnamespace::text) NOT IN (SELECT * FROM unnest($1::text[], $2::text[]))
), space AS MATERIALIZED (
  SELECT oid, nspname = 'public' OR EXISTS (SELECT FROM tied WHERE classid = 'pg_namespace'::regclass AND objid = n.oid)
    OR EXISTS (SELECT FROM pg_extension e WHERE e.extnamespace = n.oid AND e.oid NOT IN (SELECT oid FROM leaving)) AS stays
  FROM pg_namespace n WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'
), thing(rank, class, oid) AS (
  SELECT 1, 'pg_event_trigger'::regclass, oid FROM pg_event_trigger
  UNION ALL SELECT 2, 'pg_publication'::regclass, oid FROM pg_publication
  UNION ALL SELECT 3, 'pg_extension'::regclass, oid FROM leaving
  UNION ALL SELECT 4, 'pg_namespace'::regclass, oid FROM space WHERE NOT stays
  UNION ALL SELECT CASE relkind WHEN 'r' THEN 6 WHEN 'p' THEN 6 WHEN 'S' THEN 7 ELSE 5 END, 'pg_class'::regclass, oid FROM pg_class
    WHERE relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND relnamespace IN (SELECT oid FROM space WHERE stays)
  UNION ALL SELECT 8, 'pg_type'::regclass, oid FROM pg_type t WHERE typnamespace IN (SELECT oid FROM space WHERE stays)
    AND (typrelid = 0 OR EXISTS (SELECT FROM pg_class c WHERE c.oid = t.typrelid AND c.relkind = 'c'))
    AND NOT EXISTS (SELECT FROM pg_type e WHERE e.typarray = t.oid)
  UNION ALL SELECT 9, 'pg_proc'::regclass, oid FROM pg_proc WHERE pronamespace IN (SELECT oid FROM space WHERE stays)
  UNION ALL SELECT 10, 'pg_operator'::regclass, oid FROM pg_operator WHERE oprnamespace IN (SELECT oid FROM space WHERE stays)
  UNION ALL SELECT 11, 'pg_opclass'::regclass, oid FROM pg_opclass WHERE opcnamespace IN (SELECT oid FROM space WHERE stays)
  UNION ALL SELECT 12, 'pg_opfamily'::regclass, oid FROM pg_opfamily WHERE opfnamespace IN (SELECT oid FROM space WHERE stays)
  UNION ALL SELECT 13, 'pg_collation'::regclass, oid FROM pg_collation WHERE collnamespace IN (SELECT oid FROM space WHERE stays)
  UNION ALL SELECT 13, 'pg_conversion'::regclass, oid FROM pg_conversion WHERE connamespace IN (SELECT oid FROM space WHERE stays)
  UNION ALL SELECT 13, 'pg_statistic_ext'::regclass, oid FROM pg_statistic_ext WHERE stxnamespace IN (SELECT oid FROM space WHERE stays)
  UNION ALL SELECT 14, 'pg_ts_config'::regclass, oid FROM pg_ts_config WHERE cfgnamespace IN (SELECT oid FROM space WHERE stays)
  UNION ALL SELECT 15, 'pg_ts_dict'::regclass, oid FROM pg_ts_dict WHERE dictnamespace IN (SELECT oid FROM space WHERE stays)
  UNION ALL SELECT 16, 'pg_ts_parser'::regclass, oid FROM pg_ts_parser WHERE prsnamespace IN (SELECT oid FROM space WHERE stays)
  UNION ALL SELECT 16, 'pg_ts_template'::regclass, oid FROM pg_ts_template WHERE tmplnamespace IN (SELECT oid FROM space WHERE stays)
  UNION ALL SELECT 17, 'pg_cast'::regclass, oid FROM pg_cast
  UNION ALL SELECT 18, 'pg_transform'::regclass, oid FROM pg_transform
  UNION ALL SELECT 19, 'pg_foreign_server'::regclass, oid FROM pg_foreign_server
  UNION ALL SELECT 20, 'pg_foreign_data_wrapper'::regclass, oid FROM pg_foreign_data_wrapper
  UNION ALL SELECT 21, 'pg_language'::regclass, oid FROM pg_language
  UNION ALL SELECT 22, 'pg_am'::regclass, oid FROM pg_am
)
SELECT i.type, i.identity FROM thing t CROSS JOIN LATERAL pg_identify_object(t.class, t.oid, 0) i
WHERE t.oid >= 16384 AND NOT EXISTS (SELECT FROM tied WHERE classid = t.class AND objid = t.oid)
ORDER BY t.rank, i.identity
"""

_KEYWORDS = {"statistics object": "STATISTICS", "foreign-data wrapper": "FOREIGN DATA WRAPPER"}

_KEPT_SCHEMAS = """
SELECT DISTINCT extnamespace::regnamespace::text FROM pg_extension
WHERE oid >= 16384 AND extnamespace::regnamespace::text <> 'public'
  AND (extname, extnamespace::regnamespace::text) IN (SELECT * FROM unnest($1::text[], $2::text[]))
"""

# A schema made by hand lets nobody but its owner in, initdb's `public` lets everybody use it.
_PUBLIC = """
SELECT n.nspowner::regrole::text AS owner,
       d.description,
       (SELECT array_agg(DISTINCT format('%s=%s', CASE x.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(x.grantee)) END,
          x.privilege_type)) FROM aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) x) AS rights
FROM pg_namespace n
LEFT JOIN pg_description d ON d.classoid = 'pg_namespace'::regclass AND d.objoid = n.oid
WHERE n.nspname = 'public'
"""

_INITIAL_RIGHTS = {"pg_database_owner=CREATE", "pg_database_owner=USAGE", "PUBLIC=USAGE"}

_DEFAULT_PRIVILEGES = """
SELECT pg_get_userbyid(a.defaclrole) AS role, a.defaclnamespace::regnamespace::text AS schema,
       CASE a.defaclobjtype WHEN 'r' THEN 'TABLES' WHEN 'S' THEN 'SEQUENCES' WHEN 'f' THEN 'FUNCTIONS' WHEN 'T' THEN 'TYPES'
         WHEN 'n' THEN 'SCHEMAS' WHEN 'L' THEN 'LARGE OBJECTS' END AS kind,
       (SELECT array_agg(DISTINCT CASE x.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(x.grantee)) END)
          FROM aclexplode(a.defaclacl) x) AS grantees
FROM pg_default_acl a WHERE a.defaclnamespace = 0 OR a.defaclnamespace::regnamespace::text IN (SELECT unnest($1::text[]) UNION SELECT 'public')
"""


async def wipe(connection: Connection, *, extensions: Mapping[str, str], rights: bool) -> list[str]:
    """Drop everything but some extensions.

    Args:
        extensions: what stays where it is in that schema, as SQL names it; elsewhere it goes like the rest.

    Returns:
        The schemas that stayed because one of those lives in them.
    """
    where = list(extensions), list(extensions.values())
    kept: list[str] = [row[0] for row in await connection.fetch(_KEPT_SCHEMAS, *where)]
    drops = [_drop(kind, name) for kind, name in await connection.fetch(_DROPS, *where)]
    drops += await _unlink_large_objects(connection)
    if rights:
        drops += await _reset_default_privileges(connection, kept)
        drops += await _reset_public(connection)
    elif not await connection.fetchval("SELECT to_regnamespace('public') IS NOT NULL"):
        drops.append("CREATE SCHEMA public")
    if drops:
        await connection.execute("; ".join(drops))
    return kept


def _drop(kind: str, identity: str) -> str:
    """pg_identify_object's words as a statement; they are SQL already, but for these."""
    if kind == "transform":
        identity = identity.replace(" on language ", " LANGUAGE ")
    if kind == "aggregate" and identity.endswith("()"):
        identity = f"{identity[:-1]}*)"
    return f"DROP {_KEYWORDS.get(kind, kind.upper())} IF EXISTS {identity} CASCADE"


async def _unlink_large_objects(connection: Connection) -> list[str]:
    some = await connection.fetchval("SELECT EXISTS (SELECT FROM pg_largeobject_metadata)")
    return ["SELECT count(lo_unlink(oid)) FROM pg_largeobject_metadata"] if some else []


async def _reset_default_privileges(connection: Connection, kept: list[str]) -> list[str]:
    # An entry disappears by itself once it says what the server would say without it.
    changes = []
    for role, schema, kind, grantees in await connection.fetch(_DEFAULT_PRIVILEGES, kept):
        start = f"ALTER DEFAULT PRIVILEGES FOR ROLE {identifier(role)}"
        if schema != "-":
            start += f" IN SCHEMA {schema}"
        for grantee in grantees or ():
            changes.append(f"{start} REVOKE ALL ON {kind} FROM {grantee} CASCADE")
        if schema == "-":
            changes.append(f"{start} GRANT ALL ON {kind} TO {identifier(role)}")
            if kind in ("FUNCTIONS", "TYPES"):
                changes.append(f"{start} GRANT {'EXECUTE' if kind == 'FUNCTIONS' else 'USAGE'} ON {kind} TO PUBLIC")
    return changes


async def _reset_public(connection: Connection) -> list[str]:
    row = await connection.fetchrow(_PUBLIC)
    owner = "ALTER SCHEMA public OWNER TO pg_database_owner"
    everybody = "GRANT USAGE ON SCHEMA public TO PUBLIC"
    comment = "COMMENT ON SCHEMA public IS 'standard public schema'"
    if row is None:
        return ["CREATE SCHEMA public", owner, everybody, comment]
    changes = []
    if row["owner"] != "pg_database_owner":
        changes.append(owner)
    if (row["owner"], set(row["rights"])) != ("pg_database_owner", _INITIAL_RIGHTS):
        grantees = sorted({right.rpartition("=")[0] for right in row["rights"]})
        changes += [f"REVOKE ALL ON SCHEMA public FROM {grantee} CASCADE" for grantee in grantees]
        changes += ["GRANT ALL ON SCHEMA public TO pg_database_owner", everybody]
    if row["description"] != "standard public schema":
        changes.append(comment)
    return changes
