"""What a database looks like, apart from its rows: read as sorted (section, name, definition) lines and hashed.

Two databases with equal fingerprints have the same tables, columns, types, constraints, indexes, views, functions, triggers,
policies, sequences and comments. Nothing in it depends on object ids, on column numbers that dropped columns left
behind, or on the order of creation; nor on what pg_dump does not carry, or words in another way.
Facts: https://www.postgresql.org/docs/current/catalogs.html
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping

from msgspec import Struct

from .asking import ask
from .driver import Connection
from .quoting import literal

# Invalid indexes (left by a failed CREATE INDEX CONCURRENTLY) and NOT NULL constraints' own names (18) are not compared:
# pg_dump leaves the former out, and a column says itself whether it is NOT NULL. Nor are a foreign key's copies, one for
# each partition: the server makes them, and names them as its version likes. Nor is the order of columns where a table
# inherits: pg_dump writes the parents' first. Nor are options of columns that the server sets itself: the minor releases of
# November 2026 keep a version of each column there (pg_attver). Nor are comments on what a parent passes on: pg_dump writes none.
_QUERY = r"""
WITH member AS MATERIALIZED (
  SELECT classid, objid FROM pg_depend WHERE deptype = 'e'
), space AS MATERIALIZED (
  SELECT oid, nspname FROM pg_namespace n
  WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'
), rel AS MATERIALIZED (
  SELECT c.*, s.nspname, format('%I.%I', s.nspname, c.relname) AS name
  FROM pg_class c JOIN space s ON s.oid = c.relnamespace
  WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S', 'c', 'i', 'I')
    AND NOT EXISTS (SELECT FROM member WHERE classid = 'pg_class'::regclass AND objid = c.oid)
    AND NOT EXISTS (SELECT FROM member WHERE classid = 'pg_type'::regclass AND objid = c.reltype AND c.reltype <> 0)
)
SELECT 'schema' AS section, format('%I', nspname) AS name, '' AS definition FROM space s
  WHERE NOT EXISTS (SELECT FROM member WHERE classid = 'pg_namespace'::regclass AND objid = s.oid)
UNION ALL
SELECT 'extension', format('%I', extname), extnamespace::regnamespace::text FROM pg_extension
UNION ALL
SELECT 'relation', name, concat_ws(' ', relkind, relpersistence, relreplident,
    CASE WHEN relrowsecurity THEN 'rls' END, CASE WHEN relforcerowsecurity THEN 'force rls' END,
    CASE WHEN relkind IN ('r', 'm') THEN (SELECT amname FROM pg_am a WHERE a.oid = relam) END,
    CASE WHEN reltablespace <> 0 THEN (SELECT spcname FROM pg_tablespace t WHERE t.oid = reltablespace) END,
    CASE WHEN reloptions IS NOT NULL THEN (SELECT string_agg(o, ',' ORDER BY o) FROM unnest(reloptions) o) END,
    CASE WHEN reloftype <> 0 THEN 'of ' || reloftype::regtype END,
    CASE WHEN relispartition THEN pg_get_expr(relpartbound, oid) END,
    CASE WHEN oid IN (SELECT inhrelid FROM pg_inherits) THEN
      (SELECT 'inherits ' || string_agg(inhparent::regclass::text, ',' ORDER BY inhseqno) FROM pg_inherits WHERE inhrelid = rel.oid) END,
    CASE WHEN relkind = 'm' AND NOT relispopulated THEN 'unpopulated' END)
  FROM rel WHERE relkind NOT IN ('i', 'I')
UNION ALL
SELECT 'partition key', name, pg_get_partkeydef(oid) FROM rel WHERE relkind = 'p'
UNION ALL
SELECT 'column', format('%s.%I', rel.name, a.attname), concat_ws(' ',
    CASE WHEN rel.relispartition OR rel.oid NOT IN (SELECT inhrelid FROM pg_inherits) THEN
      row_number() OVER (PARTITION BY rel.oid ORDER BY a.attnum) END,
    format_type(a.atttypid, a.atttypmod), CASE WHEN a.attnotnull THEN 'not null' END, CASE WHEN a.atthasdef THEN 'default' END,
    nullif('identity ' || a.attidentity::text, 'identity '), nullif('generated ' || a.attgenerated::text, 'generated '),
    CASE WHEN a.attcollation <> t.typcollation THEN 'collate ' || a.attcollation::regcollation END,
    CASE WHEN rel.relkind IN ('r', 'p', 'm') THEN 'storage ' || a.attstorage::text END, nullif('compression ' || a.attcompression::text, 'compression '),
    CASE WHEN a.attstattarget >= 0 THEN 'statistics ' || a.attstattarget END,
    (SELECT string_agg(o, ',' ORDER BY o) FROM unnest(a.attoptions) o WHERE NOT starts_with(o, 'pg_')),
    CASE WHEN NOT a.attislocal THEN 'inherited' END)
  FROM rel JOIN pg_attribute a ON a.attrelid = rel.oid AND a.attnum > 0 AND NOT a.attisdropped
    JOIN pg_type t ON t.oid = a.atttypid
  WHERE rel.relkind NOT IN ('i', 'I', 'S')
UNION ALL
SELECT 'default', format('%s.%I', rel.name, a.attname), pg_get_expr(d.adbin, d.adrelid)
  FROM rel JOIN pg_attrdef d ON d.adrelid = rel.oid JOIN pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum
UNION ALL
SELECT section, format('%s.%I', coalesce(rel.name, c.contypid::regtype::text), c.conname), said
  FROM pg_constraint c CROSS JOIN LATERAL (VALUES ('constraint definition', pg_get_constraintdef(c.oid)),
    ('constraint', concat_ws(' ', c.contype, CASE WHEN NOT c.convalidated THEN 'not valid' END, CASE WHEN NOT c.conislocal THEN 'inherited' END))) w(section, said)
    LEFT JOIN rel ON rel.oid = c.conrelid
  WHERE c.contype NOT IN ('t', 'n') AND NOT (c.contype = 'f' AND c.conparentid <> 0) AND (rel.oid IS NOT NULL OR c.conrelid = 0 AND c.connamespace IN (SELECT oid FROM space)
    AND NOT EXISTS (SELECT FROM member WHERE classid = 'pg_type'::regclass AND objid = c.contypid))
UNION ALL
SELECT section, rel.name, said
  FROM rel JOIN pg_index i ON i.indexrelid = rel.oid CROSS JOIN LATERAL (VALUES ('index definition', pg_get_indexdef(rel.oid)),
    ('index', concat_ws(' ', CASE WHEN i.indisclustered THEN 'clustered' END, CASE WHEN i.indisreplident THEN 'replica identity' END,
      (SELECT 'statistics ' || string_agg(attnum || '=' || attstattarget, ',' ORDER BY attnum) FROM pg_attribute
        WHERE attrelid = rel.oid AND attstattarget >= 0)))) w(section, said)
  WHERE i.indisvalid OR rel.relkind = 'I'
UNION ALL
SELECT 'sequence', rel.name, concat_ws(' ', s.seqtypid::regtype, s.seqstart, s.seqincrement, s.seqmin, s.seqmax, s.seqcache, s.seqcycle,
    (SELECT format('%s by %s.%s', CASE deptype WHEN 'i' THEN 'identity' ELSE 'owned' END, refobjid::regclass, attname)
      FROM pg_depend JOIN pg_attribute a ON a.attrelid = refobjid AND a.attnum = refobjsubid
      WHERE classid = 'pg_class'::regclass AND objid = rel.oid AND refclassid = 'pg_class'::regclass AND deptype IN ('a', 'i') LIMIT 1))
  FROM rel JOIN pg_sequence s ON s.seqrelid = rel.oid
UNION ALL
SELECT 'view', name, pg_get_viewdef(oid) FROM rel WHERE relkind IN ('v', 'm')
UNION ALL
SELECT 'function', format('%s %s', p.prokind, p.oid::regprocedure), CASE WHEN p.prokind <> 'a' THEN pg_get_functiondef(p.oid) ELSE
    (SELECT concat_ws(' ', a.aggkind, a.aggnumdirectargs, a.aggtransfn, a.aggfinalfn, a.aggcombinefn, a.aggserialfn, a.aggmtransfn,
       a.aggminvtransfn, a.aggmfinalfn, a.aggsortop::regoperator, a.aggtranstype::regtype, a.agginitval, a.aggminitval, a.aggfinalextra,
       a.aggfinalmodify, pg_get_function_arguments(p.oid)) FROM pg_aggregate a WHERE a.aggfnoid = p.oid) END
  FROM pg_proc p WHERE p.pronamespace IN (SELECT oid FROM space)
    AND NOT EXISTS (SELECT FROM member WHERE classid = 'pg_proc'::regclass AND objid = p.oid)
UNION ALL
SELECT 'type', t.oid::regtype::text, concat_ws(' ', t.typtype, t.typcategory, t.typlen, t.typnotnull,
    CASE WHEN t.typtype = 'd' THEN format_type(t.typbasetype, t.typtypmod) END,
    CASE WHEN t.typtype = 'd' AND t.typcollation <> 0 THEN t.typcollation::regcollation::text END,
    (SELECT string_agg(quote_literal(e.enumlabel), ',' ORDER BY e.enumsortorder) FROM pg_enum e WHERE e.enumtypid = t.oid),
    (SELECT concat_ws(' ', r.rngsubtype::regtype, r.rngcanonical, r.rngsubdiff, r.rngcollation) FROM pg_range r WHERE r.rngtypid = t.oid))
  FROM pg_type t WHERE t.typnamespace IN (SELECT oid FROM space) AND t.typtype IN ('b', 'c', 'd', 'e', 'r')
    AND NOT (t.typtype = 'b' AND EXISTS (SELECT FROM pg_type e WHERE e.typarray = t.oid))
    AND (t.typrelid = 0 OR EXISTS (SELECT FROM pg_class c WHERE c.oid = t.typrelid AND c.relkind = 'c'))
    AND NOT EXISTS (SELECT FROM member WHERE classid = 'pg_type'::regclass AND objid = t.oid)
UNION ALL
SELECT 'default', t.oid::regtype::text, t.typdefault
  FROM pg_type t WHERE t.typnamespace IN (SELECT oid FROM space) AND t.typdefault IS NOT NULL
    AND NOT EXISTS (SELECT FROM member WHERE classid = 'pg_type'::regclass AND objid = t.oid)
UNION ALL
SELECT section, format('%s.%I', rel.name, g.tgname), said
  FROM pg_trigger g CROSS JOIN LATERAL (VALUES ('trigger', g.tgenabled::text), ('trigger definition', pg_get_triggerdef(g.oid))) w(section, said) JOIN rel ON rel.oid = g.tgrelid WHERE NOT g.tgisinternal
UNION ALL
SELECT section, format('%s.%I', rel.name, r.rulename), said
  FROM pg_rewrite r CROSS JOIN LATERAL (VALUES ('rule', r.ev_enabled::text), ('rule definition', pg_get_ruledef(r.oid))) w(section, said) JOIN rel ON rel.oid = r.ev_class WHERE r.rulename <> '_RETURN'
UNION ALL
SELECT section, format('%s.%I', rel.name, p.polname), said
  FROM pg_policy p CROSS JOIN LATERAL (VALUES ('policy', concat_ws(' ', p.polcmd, p.polpermissive,
      (SELECT string_agg(CASE r WHEN 0 THEN 'public' ELSE r::regrole::text END, ',' ORDER BY r::regrole::text) FROM unnest(p.polroles) r))),
    ('policy definition', concat_ws(' ', 'using ' || pg_get_expr(p.polqual, p.polrelid), 'check ' || pg_get_expr(p.polwithcheck, p.polrelid)))
  ) w(section, said) JOIN rel ON rel.oid = p.polrelid
UNION ALL
SELECT 'statistics', format('%I.%I', s.nspname, x.stxname), pg_get_statisticsobjdef(x.oid)
  FROM pg_statistic_ext x JOIN space s ON s.oid = x.stxnamespace
UNION ALL
SELECT 'event trigger', format('%I', evtname), concat_ws(' ', evtevent, evtfoid::regproc, evtenabled, evttags) FROM pg_event_trigger e
  WHERE NOT EXISTS (SELECT FROM member WHERE classid = 'pg_event_trigger'::regclass AND objid = e.oid)
UNION ALL
SELECT 'publication', format('%I', pubname), concat_ws(' ', puballtables, pubinsert, pubupdate, pubdelete, pubtruncate, pubviaroot,
    'generated ' || nullif(to_jsonb(p) ->> 'pubgencols', 'n'),
    (SELECT string_agg(concat_ws(' ', r.prrelid::regclass, pg_get_expr(r.prqual, r.prrelid), '(' || (SELECT string_agg(quote_ident(attname), ',' ORDER BY attnum)
         FROM pg_attribute WHERE attrelid = r.prrelid AND attnum = ANY (r.prattrs::int2[])) || ')'), ', '
       ORDER BY r.prrelid::regclass::text) FROM pg_publication_rel r WHERE r.prpubid = p.oid),
    (SELECT 'schemas ' || string_agg(n.pnnspid::regnamespace::text, ', ' ORDER BY n.pnnspid::regnamespace::text)
       FROM pg_publication_namespace n WHERE n.pnpubid = p.oid)) FROM pg_publication p
UNION ALL
SELECT 'other', format('%s %s', i.type, i.identity), '' FROM (
    SELECT 'pg_operator'::regclass AS c, oid FROM pg_operator UNION ALL SELECT 'pg_opclass'::regclass, oid FROM pg_opclass
    UNION ALL SELECT 'pg_opfamily'::regclass, oid FROM pg_opfamily UNION ALL SELECT 'pg_collation'::regclass, oid FROM pg_collation
    UNION ALL SELECT 'pg_conversion'::regclass, oid FROM pg_conversion UNION ALL SELECT 'pg_cast'::regclass, oid FROM pg_cast
    UNION ALL SELECT 'pg_transform'::regclass, oid FROM pg_transform UNION ALL SELECT 'pg_language'::regclass, oid FROM pg_language
    UNION ALL SELECT 'pg_am'::regclass, oid FROM pg_am UNION ALL SELECT 'pg_ts_config'::regclass, oid FROM pg_ts_config
    UNION ALL SELECT 'pg_ts_dict'::regclass, oid FROM pg_ts_dict UNION ALL SELECT 'pg_ts_parser'::regclass, oid FROM pg_ts_parser
    UNION ALL SELECT 'pg_ts_template'::regclass, oid FROM pg_ts_template
    UNION ALL SELECT 'pg_foreign_data_wrapper'::regclass, oid FROM pg_foreign_data_wrapper
    UNION ALL SELECT 'pg_foreign_server'::regclass, oid FROM pg_foreign_server
  ) o CROSS JOIN LATERAL pg_identify_object(o.c, o.oid, 0) i
  WHERE o.oid >= 16384 AND NOT EXISTS (SELECT FROM member WHERE classid = o.c AND objid = o.oid)
UNION ALL
SELECT 'comment', format('%s %s', i.type, i.identity), d.description
  FROM pg_description d CROSS JOIN LATERAL pg_identify_object(d.classoid, d.objoid, d.objsubid) i
  WHERE (d.objoid >= 16384 OR d.classoid = 'pg_namespace'::regclass AND d.objoid = (SELECT oid FROM pg_namespace WHERE nspname = 'public'))
    AND NOT EXISTS (SELECT FROM member WHERE classid = d.classoid AND objid = d.objoid)
    AND d.classoid <> 'pg_largeobject'::regclass
    AND NOT (d.classoid = 'pg_extension'::regclass)
    AND NOT (d.classoid = 'pg_constraint'::regclass AND EXISTS (SELECT FROM pg_constraint c WHERE c.oid = d.objoid
      AND (c.contype = 'n' OR c.conparentid <> 0 OR NOT c.conislocal)))
    AND NOT (d.classoid = 'pg_trigger'::regclass AND EXISTS (SELECT FROM pg_trigger g WHERE g.oid = d.objoid AND g.tgparentid <> 0))
"""

# What the server words itself. Where it reads its own words again, it may say them in another way: the casts of a list,
# (ARRAY['a'::varchar])::text[], move into it, ((a OR b) OR c) loses a pair of parentheses, and (SELECT 'a'::text) gets
# an AS text. So words are compared without spaces and parentheses, without such names, and lists without casts, but for
# the body of a function, which nobody rewords. The next difference of this kind must not cost anybody a restore: it is a
# warning. Each of the definitions stands beside a line of facts, which must be equal.
_DEFINITIONS = tuple(f"{section} definition" for section in ("constraint", "index", "trigger", "rule", "policy"))
_WORDED = ("partition key", "default", "view", "function", "statistics", *_DEFINITIONS)
_SPACES, _BODY = " \n()", "\nAS $"
_WITHOUT_SPACES = str.maketrans("", "", _SPACES)
_CAST = (
    r"""::(?:"[^"]*"|[^] "'():,.[]+)(?:[.](?:"[^"]*"|[^] "'():,.[]+))?(?: varying| precision)?"""
    r"""(?:[(][0-9, ]+[)])?(?: with(?:out)? time zone)?(?:\[\])*"""
)
_REWORDED = ((" AS ", rf'({_CAST}) AS (?:"[^"]*"|[a-z_0-9]+)', r"\1"), ("ARRAY[", _CAST, ""))
"""What to look for first, because it is quick, the pattern, and what takes its place."""


def _plain_sql() -> str:
    head = "left(definition, at)"
    for mark, pattern, new in _REWORDED:
        replaced = f"regexp_replace({head}, {literal(pattern)}, {literal(new)}, 'g')"
        head = f"CASE WHEN strpos(definition, {literal(mark)}) > 0 THEN {replaced} ELSE {head} END"
    worded = ", ".join(literal(section) for section in _WORDED)
    return f"""
SELECT section, name, CASE WHEN section = ANY (ARRAY[{worded}])
  THEN translate({head}, {literal(_SPACES)}, '') || substr(definition, at + 1) ELSE definition END AS definition
FROM ({_QUERY.strip()}) line
CROSS JOIN LATERAL (SELECT coalesce(nullif(strpos(definition, {literal(_BODY)}), 0), length(definition)) AS at) body
"""


# What belongs to whom and who may do what: told apart, because a restore may leave it out on purpose.
_RIGHTS_QUERY = r"""
WITH member AS MATERIALIZED (
  SELECT classid, objid FROM pg_depend WHERE deptype = 'e'
), space AS MATERIALIZED (
  SELECT oid FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'
), thing AS (
  SELECT 'pg_class'::regclass AS class, oid, 0 AS sub, relowner AS owner, coalesce(relacl, acldefault(CASE relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", relowner)) AS acl
    FROM pg_class WHERE relnamespace IN (SELECT oid FROM space) AND relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
  UNION ALL SELECT 'pg_class'::regclass, attrelid, attnum, NULL, attacl FROM pg_attribute
    WHERE attacl IS NOT NULL AND NOT attisdropped AND attrelid IN (SELECT oid FROM pg_class WHERE relnamespace IN (SELECT oid FROM space))
  UNION ALL SELECT 'pg_namespace'::regclass, oid, 0, nspowner, coalesce(nspacl, acldefault('n', nspowner)) FROM pg_namespace WHERE oid IN (SELECT oid FROM space)
  UNION ALL SELECT 'pg_proc'::regclass, oid, 0, proowner, coalesce(proacl, acldefault('f', proowner)) FROM pg_proc WHERE pronamespace IN (SELECT oid FROM space)
  UNION ALL SELECT 'pg_type'::regclass, oid, 0, typowner, coalesce(typacl, acldefault('T', typowner)) FROM pg_type t WHERE typnamespace IN (SELECT oid FROM space)
    AND (typrelid = 0 OR EXISTS (SELECT FROM pg_class c WHERE c.oid = t.typrelid AND c.relkind = 'c')) AND NOT EXISTS (SELECT FROM pg_type e WHERE e.typarray = t.oid)
    AND typtype <> 'm'
)
SELECT 'rights' AS section, format('%s %s', i.type, i.identity) AS name, concat_ws(' ', 'owner ' || pg_get_userbyid(t.owner),
    (SELECT string_agg(format('%s=%s%s', CASE x.grantee WHEN 0 THEN 'public' ELSE pg_get_userbyid(x.grantee) END, x.privilege_type,
       CASE WHEN x.is_grantable THEN '*' ELSE '' END), ',' ORDER BY pg_get_userbyid(x.grantee), x.privilege_type, x.is_grantable) FROM (SELECT DISTINCT grantee, privilege_type, is_grantable FROM aclexplode(t.acl)) x)) AS definition
  FROM thing t CROSS JOIN LATERAL pg_identify_object(t.class, t.oid, t.sub) i
  WHERE NOT EXISTS (SELECT FROM member WHERE classid = t.class AND objid = t.oid)
UNION ALL
SELECT 'rights', format('default privileges of %s in %s for %s', pg_get_userbyid(defaclrole), coalesce(defaclnamespace::regnamespace::text, ''), defaclobjtype),
    (SELECT string_agg(format('%s=%s%s', CASE x.grantee WHEN 0 THEN 'public' ELSE pg_get_userbyid(x.grantee) END, x.privilege_type,
       CASE WHEN x.is_grantable THEN '*' ELSE '' END), ',' ORDER BY pg_get_userbyid(x.grantee), x.privilege_type, x.is_grantable) FROM aclexplode(defaclacl) x)
  FROM pg_default_acl
UNION ALL
SELECT 'rights', format('extension %I', extname), 'version ' || extversion FROM pg_extension
"""

# The server words these as they are now, whatever snapshot one reads in, and reading a table does not keep them as they are.
_REPLACEABLE = r"""
SELECT 'function ' || p.oid::regprocedure, concat_ws(' ', p.oid, p.xmin) FROM pg_proc p
  JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
UNION ALL
SELECT 'view ' || c.oid::regclass, concat_ws(' ', r.oid, r.xmin) FROM pg_rewrite r JOIN pg_class c ON c.oid = r.ev_class
  JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
"""

# An index and a sequence are only known by their own names: those of the hidden tables are looked up.
_OBJECTS = r"""
WITH object AS ({query}), hidden AS (
  SELECT c.oid, format('%I.%I', n.nspname, c.relname) AS name FROM (VALUES {hidden}) h(space, relation)
  JOIN pg_namespace n ON n.nspname = h.space JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = h.relation
), index AS (
  SELECT format('%I.%I', n.nspname, c.relname) AS name FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
  JOIN pg_namespace n ON n.oid = c.relnamespace WHERE i.indrelid IN (SELECT oid FROM hidden)
)
SELECT replace(section, ' definition', '') || ' ' || name AS name,
  left(encode(sha256(convert_to(string_agg(coalesce(definition, ''), ' ' ORDER BY section), 'UTF8')), 'hex'), 16) AS hash
FROM object o WHERE NOT EXISTS (SELECT FROM hidden h WHERE o.name IN (h.name, 'table ' || h.name) OR starts_with(o.name, h.name || '.'))
  AND NOT (section IN ('index', 'index definition') AND name IN (SELECT name FROM index))
GROUP BY 1 ORDER BY 1
"""

_PORTABLE_SECTIONS = (
    "schema",
    "relation",
    "column",
    "constraint",
    "index",
    "sequence",
    "view",
    "trigger",
    "rule",
    "policy",
    "type",
)


WORDING = 2
"""Raised whenever the queries above say the same thing in other words."""


class Catalog(Struct, frozen=True, kw_only=True):
    """A database's structure at one moment: definitions by section and name."""

    major: int
    sections: Mapping[str, Mapping[str, str]]
    wording: int = WORDING

    @property
    def fingerprint(self) -> str:
        """SHA-256 over everything but who owns what."""
        structure = {
            section: {name: _plain(section, definition) for name, definition in lines.items()}
            for section, lines in self.sections.items()
            if section != "rights"
        }
        return hashlib.sha256(json.dumps(structure, sort_keys=True, ensure_ascii=False).encode()).hexdigest()

    def encode(self) -> bytes:
        document = {
            "major": self.major,
            "wording": self.wording,
            "fingerprint": self.fingerprint,
            "sections": self.sections,
        }
        return json.dumps(document, sort_keys=True, ensure_ascii=False, indent=1).encode()

    @classmethod
    def decode(cls, document: bytes) -> Catalog:
        content = json.loads(document)
        return cls(major=content["major"], wording=content.get("wording", 1), sections=content["sections"])


async def read(connection: Connection) -> Catalog:
    """The catalogue as this connection's transaction sees it; its search_path must be empty, so that names are qualified."""
    major = connection.get_server_version().major
    sections: dict[str, dict[str, str]] = {}
    for query in (_QUERY, _RIGHTS_QUERY):
        for section, name, definition in await connection.fetch(query):
            sections.setdefault(section, {})[name] = definition or ""
    return Catalog(major=major, sections=sections)


async def replaced(then: Connection, now: Connection) -> list[str]:
    """Functions and views that are not any more what the first one's snapshot sees: what was read of them may be newer."""
    there = {version for _, version in await now.fetch(_REPLACEABLE)}
    return sorted(name for name, version in await then.fetch(_REPLACEABLE) if version not in there)


async def objects(connection: Connection, hidden: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Every object with a short hash of its definition; read under the same condition.

    Args:
        hidden: tables that are left out with all that belongs to them, as schema and name.
    """
    pairs = ", ".join(f"({literal(schema)}, {literal(table)})" for schema, table in hidden)
    lines = await ask(connection, _OBJECTS.format(query=_plain_sql().strip(), hidden=pairs))
    return {line["name"]: line["hash"] for line in lines}


def differences(expected: Catalog, found: Catalog) -> list[str]:
    """What differs in structure, a line each.

    Between majors, and from a backup that words its catalogue in another way, only names are compared.
    """
    lines: list[str] = []
    comparable = _comparable(expected, found)
    for section in sorted({*expected.sections, *found.sections} - {"rights", "comment"}):
        left, right = expected.sections.get(section, {}), found.sections.get(section, {})
        if comparable and section not in _DEFINITIONS:
            lines += _only_in_one(section, left, right)
            lines += [] if section in _WORDED else _changed(section, left, right)
        elif section in _PORTABLE_SECTIONS:
            lines += _only_in_one(section, left, right)
    return lines


def rewordings(expected: Catalog, found: Catalog) -> list[str]:
    """What differs in the server's own words for the same thing, and in comments: nothing that a restore is worth."""
    lines: list[str] = []
    if _comparable(expected, found):
        for section in (*_WORDED, "comment"):
            left, right = expected.sections.get(section, {}), found.sections.get(section, {})
            lines += _only_in_one(section, left, right) if section == "comment" else []
            lines += _changed(section, left, right)
    return lines


def rights_differences(expected: Catalog, found: Catalog) -> list[str]:
    """What differs in owners, privileges and versions of extensions; each major version has privileges of its own."""
    if not _comparable(expected, found):
        return []
    left, right = expected.sections.get("rights", {}), found.sections.get("rights", {})
    return _only_in_one("rights of", left, right) + _changed("rights of", left, right)


def _comparable(expected: Catalog, found: Catalog) -> bool:
    return (expected.major, expected.wording) == (found.major, found.wording)


def _only_in_one(section: str, expected: Mapping[str, str], found: Mapping[str, str]) -> list[str]:
    lines = [f"{section} {name} is missing" for name in sorted(expected.keys() - found.keys())]
    return lines + [f"{section} {name} is not in the backup" for name in sorted(found.keys() - expected.keys())]


def _changed(section: str, expected: Mapping[str, str], found: Mapping[str, str]) -> list[str]:
    return [
        f"{section} {name} is {found[name]!r}, not {expected[name]!r}"
        for name in sorted(expected.keys() & found.keys())
        if _plain(section, expected[name]) != _plain(section, found[name])
    ]


def _plain(section: str, definition: str) -> str:
    """What is compared of it, and is the same in the server's words of before and after."""
    if section not in _WORDED:
        return definition
    at = definition.find(_BODY) + 1 or len(definition)
    head = definition[:at]
    for mark, pattern, new in _REWORDED:
        if mark in definition:
            head = re.sub(pattern, new, head)
    return head.translate(_WITHOUT_SPACES) + definition[at:]
