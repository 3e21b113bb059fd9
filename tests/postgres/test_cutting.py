"""How tables become parts, and which pg_dump is taken: decisions without a server."""

from __future__ import annotations

from pathlib import Path

import pytest

from msr_async.errors import ToolMissing
from msr_async.models import Column, Part, Selection
from msr_async.postgres.quoting import identifier, literal, qualified
from msr_async.postgres.schema import Tool, choose, find, roles, statements
from msr_async.postgres.statements import split
from msr_async.postgres.tables import Table, cut, query, wanted

MiB = 1024 * 1024


def table(
    name: str, *, heap: int = 0, total: int | None = None, root: str | None = None, sliceable: bool = True
) -> Table:
    return Table(
        oid=1, schema="public", name=name, kind="r", config=False, condition="", heap=heap,
        total=heap if total is None else total, sliceable=sliceable, hidden_rows=False, root=root,
        columns=(Column(name="id", type="bigint"), Column(name='we"ird', type="text")),
    )  # fmt: skip


def test_a_big_table_is_cut_into_slices_that_leave_nothing_out() -> None:
    parts = cut([table("small", heap=8192), table("big", heap=400 * MiB)])
    big = [part for part in parts if part.names[1] == "big"]
    assert parts[-1].slice == ""
    assert parts[-1].names == ("public", "small")
    assert len(big) == 12
    edges = [part.slice.split("-") for part in big]
    assert edges[0][0] == "0"
    assert edges[-1][1] == ""
    assert [end for _, end in edges[:-1]] == [start for start, _ in edges[1:]]


def test_a_table_that_cannot_be_sliced_is_dumped_whole() -> None:
    assert [part.slice for part in cut([table("big", heap=400 * MiB, sliceable=False)])] == [""]


def test_the_biggest_table_counts_its_toast() -> None:
    parts = cut([table("a", heap=2 * MiB), table("b", heap=1 * MiB, total=30 * MiB)])
    assert [part.names[1] for part in parts] == ["b", "a"]


def test_a_slice_is_a_range_of_ctids() -> None:
    part = Part(kind="table", names=("public", "t"), columns=(Column(name='a"b', type="int"),), slice="5-9")
    assert query(part, None) == (
        'SELECT "a""b" FROM ONLY "public"."t" WHERE ctid >= \'(5,0)\'::pg_catalog.tid AND ctid < \'(9,0)\'::pg_catalog.tid'
    )


@pytest.mark.parametrize(
    ("include", "exclude", "expected"),
    [
        ((), (), True),
        (("public.*",), (), True),
        (("audit.*",), (), False),
        ((), ("*.events_2024",), False),
        (("public.events",), (), True),
        ((), ("public.events",), False),
    ],
)
def test_patterns_match_a_table_or_its_partitioned_root(
    include: tuple[str, ...], exclude: tuple[str, ...], expected: bool
) -> None:
    assert wanted(table("events_2024", root="public.events"), Selection(include=include, exclude=exclude)) is expected


def test_names_and_texts_are_quoted() -> None:
    assert qualified(("Weird Schema", 'a"b; DROP TABLE x--')) == '"Weird Schema"."a""b; DROP TABLE x--"'
    assert literal("it's") == "'it''s'"
    assert literal("back\\slash'") == " E'back\\\\slash'''"
    for bad in ("", "a\0b"):
        with pytest.raises(ValueError, match="identifier"):
            identifier(bad)
    with pytest.raises(ValueError, match="NUL"):
        literal("a\0b")


def test_the_oldest_pg_dump_that_is_new_enough_is_taken() -> None:
    tools = [Tool(path=Path(f"/{major}/pg_dump"), major=major) for major in (18, 15, 16)]
    chosen = choose(tools, 16)
    assert chosen is not None
    assert chosen.major == 16
    assert choose(tools, 19) is None


async def test_a_server_newer_than_every_pg_dump_is_an_error_that_names_them() -> None:
    with pytest.raises(ToolMissing, match=r"PostgreSQL 99, newer than every pg_dump found: .*pg_dump \(\d+\)"):
        await find(99)


async def test_a_named_pg_dump_is_the_only_one_looked_at(tmp_path: Path) -> None:
    with pytest.raises(ToolMissing, match=r"MSR_PG_DUMP names .*nowhere, which does not run"):
        await find(16, {"MSR_PG_DUMP": str(tmp_path / "nowhere")})
    old = tmp_path / "pg_dump"
    old.write_text("#!/bin/sh\necho 'pg_dump (PostgreSQL) 9.6.24'\n")
    old.chmod(0o755)
    with pytest.raises(ToolMissing, match=r"which is version 9; the server is 16"):
        await find(16, {"MSR_PG_DUMP": str(old)})


DUMPED = rb"""
\restrict abcDEF123
SET transaction_timeout = 0;
CREATE SCHEMA "kept";
CREATE SCHEMA "new""one";
ALTER SCHEMA "new""one" OWNER TO "some body";
CREATE TABLE "new""one"."t" ("a" text DEFAULT 'x OWNER TO y');
GRANT SELECT ON TABLE "new""one"."t" TO "Reader";
ALTER DEFAULT PRIVILEGES FOR ROLE "boss" GRANT SELECT ON TABLES TO "Reader";
\unrestrict abcDEF123
"""


def texts(**options: object) -> list[str]:
    settings: dict[str, object] = {"major": 18, "owners": True, "privileges": True, "kept_schemas": ()}
    return [statement.text.split("(")[0].strip() for statement in statements(DUMPED, **{**settings, **options})]  # type: ignore[arg-type]


def test_psql_commands_never_reach_the_server() -> None:
    assert not any("restrict" in text for text in texts())
    assert len(texts()) == 7


def test_what_is_not_wanted_or_not_known_is_left_out() -> None:
    assert not any(text.startswith("SET") for text in texts(major=16))
    assert 'CREATE SCHEMA "kept"' not in texts(kept_schemas=["kept"])
    assert not any(text.startswith("ALTER SCHEMA") for text in texts(owners=False))
    assert not any(text.startswith(("GRANT", "ALTER DEFAULT")) for text in texts(privileges=False))
    assert any(text.startswith("CREATE TABLE") for text in texts(owners=False, privileges=False))


def test_roles_that_a_schema_names_are_found() -> None:
    assert roles(split(DUMPED.decode())) == {"some body", "Reader", "boss"}
    rest = """CREATE POLICY "p" ON "t" FOR SELECT TO "a", "b""c" USING (("x" ~ 'to') OR ("to" = "on"));
        CREATE POLICY "q" ON "t" USING (to_char("x") = 'TO "nobody"'); REVOKE ALL ON TABLE "from" FROM PUBLIC, "d";
        CREATE USER MAPPING FOR "e" SERVER "s"; SET SESSION AUTHORIZATION "f"; RESET SESSION AUTHORIZATION;
        ALTER FUNCTION "g"("at" timestamp with time zone, "owner" text) OWNER TO "h"; ALTER TABLE "t" CLUSTER ON "to";
        GRANT SELECT("to") ON TABLE "t" TO "i" WITH GRANT OPTION; COMMENT ON TABLE "t" IS 'OWNER TO "nobody"';
        CREATE FUNCTION "j"() RETURNS "text" LANGUAGE "sql" AS $$ SELECT 'GRANT x TO "nobody"' $$;"""
    assert roles(split(rest)) == {"a", 'b"c', "public", "d", "e", "f", "h", "i"}


def test_owners_that_pg_restore_wrote_without_quotes_are_found_and_left_out() -> None:
    document = b"""ALTER TABLE shop.orders OWNER TO boss; COMMENT ON TABLE "t" IS 'now OWNER TO nobody';
        ALTER TABLE "t" ADD CONSTRAINT "c" CHECK (("x" <> 'OWNER TO y'));"""
    assert roles(split(document.decode())) == {"boss"}
    left = statements(document, major=18, owners=False, privileges=True)
    assert [statement.words[0] for statement in left] == ["COMMENT", "ALTER"]


def test_only_the_first_and_the_last_line_for_psql_are_taken_out() -> None:
    document = b"--\n\\restrict Key1\nSELECT '\n\\restrict abc\n\\unrestrict Key1\n';\n\\unrestrict Key1\n"
    (statement,) = statements(document, major=18, owners=True, privileges=True, kept_schemas=())
    assert statement.text == "SELECT '\n\\restrict abc\n\\unrestrict Key1\n'"
