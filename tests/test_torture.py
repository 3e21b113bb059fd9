"""The test bed itself: the torture database loads everywhere, and the comparer sees what differs and nothing else."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.servers import QUIET_PSQL, Database, only_newest
from tests.support.torture import dump_lines, load_torture, same_database, without_extensions

MakeDatabase = Callable[[], Database]


def test_lines_for_full_builds_are_left_out_whole() -> None:
    text = "CREATE TABLE a ();\nCREATE EXTENSION x; -- full build only\n-- full build only is said in the middle here\n"
    assert without_extensions(text) == "CREATE TABLE a ();\n-- full build only is said in the middle here\n"


def test_pg_dump_and_psql_carry_the_torture_database_whole(make_database: MakeDatabase) -> None:
    source, target = make_database(), make_database()
    load_torture(source.server, source.dsn)
    source.server.run("psql", *QUIET_PSQL, target.dsn, stdin=source.server.run("pg_dump", "-d", source.dsn))
    assert same_database(source.server, source.dsn, target.dsn) == ""


CHANGES = {
    "one row's value": ("UPDATE t SET v = 'changed' WHERE id = 2", "+2\tchanged"),
    "a lost row": ("DELETE FROM t WHERE id = 2", "-2\ttwo"),
    "a doubled row": ("INSERT INTO u SELECT * FROM u", "+only"),
    "a sequence": ("SELECT nextval('s')", "+SELECT pg_catalog.setval('public.s', 1, true);"),
    "a comment": ("COMMENT ON TABLE t IS 'new'", "+COMMENT ON TABLE public.t IS 'new';"),
    "a privilege": ("GRANT SELECT ON t TO PUBLIC", "+GRANT SELECT ON TABLE public.t TO PUBLIC;"),
    "an index": ("CREATE INDEX i ON t (v)", "+CREATE INDEX i ON public.t USING btree (v);"),
    "a large object's byte": ("SELECT lo_put(4000000001, 0, 'J')", "'\\x4a656c6c6f'"),
}


@only_newest
@pytest.mark.parametrize("change", CHANGES)
def test_the_comparer_sees(make_database: MakeDatabase, change: str) -> None:
    script = """
        CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'one'), (2, 'two'); CREATE SEQUENCE s;
        CREATE TABLE u (v text); INSERT INTO u VALUES ('only'); SELECT lo_from_bytea(4000000001, 'Hello');
    """
    a, b = make_database(), make_database()
    a.sql(script)
    b.sql(script)
    assert same_database(a.server, a.dsn, b.dsn) == ""
    statement, seen = CHANGES[change]
    b.sql(statement)
    assert seen in same_database(a.server, a.dsn, b.dsn)


@only_newest
def test_the_order_of_rows_is_no_difference(make_database: MakeDatabase) -> None:
    a, b = make_database(), make_database()
    a.sql("CREATE TABLE t (id int); INSERT INTO t VALUES (1), (2), (3)")
    b.sql("CREATE TABLE t (id int); INSERT INTO t VALUES (3), (1), (2)")
    assert same_database(a.server, a.dsn, b.dsn) == ""


@only_newest
def test_a_row_that_looks_like_a_statement_stays_a_row(make_database: MakeDatabase) -> None:
    a = make_database()
    a.sql("CREATE TABLE t (v text); INSERT INTO t VALUES ('COPY x FROM stdin;'), ('b'), (E'\\\\.'), ('\\restrict x1')")
    lines = dump_lines(a.server, a.dsn)
    start = lines.index("COPY public.t (v) FROM stdin;")
    assert lines[start + 1 : start + 6] == ["COPY x FROM stdin;", "\\\\.", "\\\\restrict x1", "b", "\\."]
