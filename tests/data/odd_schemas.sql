-- Schemas that a restore has to bring back as they are, one after each line that begins with `-- ==`; each runs in a database of
-- its own. `18` in such a line: not on older servers. `<17`: not on newer ones, which build and refresh without a search path.
-- `reworded`: the server says a definition of it in other words once it has read its own.

-- == view using join
CREATE TABLE a(id int, x int);
CREATE TABLE b(id int, y int);
CREATE VIEW v AS SELECT * FROM a FULL JOIN b USING (id);
ALTER TABLE a ADD y int;
ALTER TABLE b RENAME id TO id2;

-- == view alias rename
CREATE TABLE a(id int, x int);
CREATE VIEW v AS SELECT a.* FROM a;
ALTER TABLE a RENAME x TO z;
ALTER VIEW v RENAME COLUMN x TO q;

-- == recursive view
CREATE RECURSIVE VIEW r(n) AS VALUES (1) UNION ALL SELECT n+1 FROM r WHERE n < 5;

-- == circular views
CREATE TABLE t(a int);
CREATE VIEW v1 AS SELECT 1 AS a;
CREATE VIEW v2 AS SELECT * FROM v1;
CREATE OR REPLACE VIEW v1 AS SELECT a FROM v2;

-- == view security
CREATE TABLE t(a int);
CREATE VIEW v WITH (security_barrier, check_option=local) AS SELECT * FROM t WHERE a > 1;
ALTER VIEW v ALTER a SET DEFAULT 3;

-- == view group by pk
CREATE TABLE t(a int primary key, b int);
CREATE VIEW v AS SELECT a, b FROM t GROUP BY a;

-- == function uses table type
CREATE TABLE t(a int);
CREATE FUNCTION f(t) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1.a';
ALTER TABLE t ADD CHECK (f(t.*) > 0);
CREATE VIEW v AS SELECT f(t) FROM t;

-- == default uses function on table
CREATE TABLE k(n int);
CREATE FUNCTION nx() RETURNS int LANGUAGE sql AS 'SELECT count(*)::int FROM k';
CREATE TABLE t(a int DEFAULT nx());
INSERT INTO t DEFAULT VALUES;

-- == not valid check violating
CREATE TABLE t(a int);
INSERT INTO t VALUES (-1);
ALTER TABLE t ADD CONSTRAINT c CHECK (a > 0) NOT VALID;

-- == not valid domain
CREATE DOMAIN d AS int;
CREATE TABLE t(a d);
INSERT INTO t VALUES (-1);
ALTER DOMAIN d ADD CONSTRAINT c CHECK (VALUE > 0) NOT VALID;

-- == not valid fk
CREATE TABLE k(a int primary key);
CREATE TABLE t(a int);
INSERT INTO t VALUES (5);
ALTER TABLE t ADD FOREIGN KEY (a) REFERENCES k NOT VALID;

-- == self fk
CREATE TABLE t(a int primary key, p int REFERENCES t DEFERRABLE INITIALLY DEFERRED);
INSERT INTO t VALUES (1,2),(2,1);

-- == cyclic fk
CREATE TABLE a(id int primary key);
CREATE TABLE b(id int primary key, a int REFERENCES a);
ALTER TABLE a ADD b int REFERENCES b ON DELETE SET NULL;
INSERT INTO a VALUES (1);
INSERT INTO b VALUES (1,1);
UPDATE a SET b=1;

-- == fk set null cols
CREATE TABLE k(a int, b int, primary key(a,b));
CREATE TABLE t(a int, b int, FOREIGN KEY (a,b) REFERENCES k ON DELETE SET NULL (b));

-- == nulls not distinct
CREATE TABLE t(a int, UNIQUE NULLS NOT DISTINCT (a));
CREATE UNIQUE INDEX ON t(a) NULLS NOT DISTINCT;

-- == exclude
CREATE TABLE t(r int4range, EXCLUDE USING gist (r WITH &&) WHERE (NOT isempty(r)) DEFERRABLE);
INSERT INTO t VALUES ('[1,2)');

-- == index include opclass
CREATE TABLE t(a text, b text, j jsonb);
CREATE INDEX ON t (a text_pattern_ops DESC NULLS LAST, lower(b) COLLATE "C") INCLUDE (j) WITH (fillfactor=70) WHERE a IS NOT NULL;
CREATE INDEX ON t USING gin (j jsonb_path_ops) WITH (fastupdate=off);
CREATE INDEX ON t USING brin (a) WITH (pages_per_range=4);

-- == constraint renamed index
CREATE TABLE t(a int);
CREATE UNIQUE INDEX ux ON t(a);
ALTER TABLE t ADD CONSTRAINT pk PRIMARY KEY USING INDEX ux;
ALTER INDEX pk RENAME TO pk2;
ALTER TABLE t REPLICA IDENTITY USING INDEX pk2;
ALTER TABLE t CLUSTER ON pk2;

-- == index stats col
CREATE TABLE t(a int);
CREATE INDEX i ON t((a+1));
ALTER INDEX i ALTER COLUMN 1 SET STATISTICS 500;

-- == partition deep
CREATE TABLE p(a int, b text) PARTITION BY LIST(a);
CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1,NULL) PARTITION BY HASH(b);
CREATE TABLE p1a PARTITION OF p1 FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE p1b(b text, x int, a int);
ALTER TABLE p1b DROP x;
ALTER TABLE p1 ATTACH PARTITION p1b FOR VALUES WITH (MODULUS 2, REMAINDER 1);
CREATE TABLE pd PARTITION OF p DEFAULT;
INSERT INTO p SELECT n%3, n::text FROM generate_series(1,50) n;
CREATE INDEX ON p(b);
CREATE UNIQUE INDEX ON p1a(b);
ALTER TABLE p1a ALTER b SET DEFAULT 'q';
ALTER TABLE p1b ADD CHECK (b <> 'z');

-- == partition pk fk
CREATE TABLE p(a int, b int, primary key (a)) PARTITION BY RANGE(a);
CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (MINVALUE) TO (10);
CREATE TABLE p2 PARTITION OF p FOR VALUES FROM (10) TO (MAXVALUE) WITH (fillfactor=50);
CREATE TABLE t(a int REFERENCES p);
CREATE TABLE q(a int REFERENCES p) PARTITION BY LIST(a);
CREATE TABLE q1 PARTITION OF q FOR VALUES IN (1);
INSERT INTO p VALUES (1,1),(11,1);
INSERT INTO t VALUES (11);
INSERT INTO q VALUES (1);

-- == partition index only
CREATE TABLE p(a int) PARTITION BY LIST(a);
CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1);
CREATE INDEX pi ON ONLY p(a);

-- == partition trigger disabled
CREATE FUNCTION tf() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new;
END';CREATE TABLE p(a int) PARTITION BY LIST(a);
CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1);
CREATE TRIGGER g AFTER INSERT ON p FOR EACH ROW EXECUTE FUNCTION tf();
ALTER TABLE p1 DISABLE TRIGGER g;

-- == partition clone trig always
CREATE FUNCTION tf() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new;
END';CREATE TABLE p(a int) PARTITION BY LIST(a);
CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1);
CREATE TRIGGER g AFTER INSERT ON p FOR EACH ROW EXECUTE FUNCTION tf();
ALTER TABLE p1 ENABLE ALWAYS TRIGGER g;

-- == partition identity/generated
CREATE TABLE p(a int, g int GENERATED ALWAYS AS (a*2) STORED, t timestamptz DEFAULT now()) PARTITION BY LIST(a);
CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1);
CREATE TABLE p2 (a int, g int GENERATED ALWAYS AS (a*2) STORED, t timestamptz);
ALTER TABLE p ATTACH PARTITION p2 FOR VALUES IN (2);
INSERT INTO p(a) VALUES (1),(2);

-- == inherit constraints
CREATE TABLE a(x int, CONSTRAINT c CHECK (x>0), CONSTRAINT n CHECK (x<9) NO INHERIT);
CREATE TABLE b(CONSTRAINT c CHECK (x>0)) INHERITS (a);
CREATE TABLE d() INHERITS (a);
ALTER TABLE d ALTER x SET DEFAULT 4;
ALTER TABLE d ALTER x SET NOT NULL;
ALTER TABLE ONLY a ALTER x SET DEFAULT 5;
INSERT INTO d VALUES (3);
INSERT INTO b VALUES (2);

-- == inherit identity
CREATE TABLE a(x int GENERATED BY DEFAULT AS IDENTITY (START 5 INCREMENT 3));
INSERT INTO a DEFAULT VALUES;
CREATE TABLE b() INHERITS (a);

-- == typed table
CREATE TYPE ty AS (a int, b text);
CREATE TABLE t OF ty (a PRIMARY KEY, b DEFAULT 'x');
INSERT INTO t VALUES (1);

-- == composite w/ table array
CREATE TABLE t(a int);
CREATE TABLE u(x t[], y t);
INSERT INTO u VALUES (ARRAY[ROW(1)::t], ROW(2));
CREATE TYPE c AS (m u);
CREATE TABLE w(c c[]);

-- == range types
CREATE TYPE fr AS RANGE (subtype = float8, subtype_diff = float8mi, multirange_type_name = fmr);
CREATE TABLE t(a fr, b fmr);
INSERT INTO t VALUES ('[1,2]', '{[1,2]}');

-- == base type
CREATE TYPE bt;
CREATE FUNCTION bt_in(cstring) RETURNS bt LANGUAGE internal IMMUTABLE STRICT AS 'textin';
CREATE FUNCTION bt_out(bt) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT AS 'textout';
CREATE TYPE bt (INPUT = bt_in, OUTPUT = bt_out, LIKE = text);
CREATE TABLE t(a bt);
INSERT INTO t VALUES ('x');

-- == shell type
CREATE TYPE shelly;

-- == domain over domain
CREATE DOMAIN d1 AS int[] CHECK (array_length(VALUE,1) < 5);
CREATE DOMAIN d2 AS d1 NOT NULL DEFAULT '{1}';
CREATE TABLE t(a d2);
INSERT INTO t DEFAULT VALUES;

-- == enum added
CREATE TYPE e AS ENUM ('b');
ALTER TYPE e ADD VALUE 'a' BEFORE 'b';
ALTER TYPE e ADD VALUE 'c c''"' AFTER 'b';
CREATE TABLE t(a e DEFAULT 'a');
INSERT INTO t VALUES ('b');

-- == rules
CREATE TABLE t(a int, b int);
CREATE VIEW v AS SELECT a FROM t;
CREATE RULE ri AS ON INSERT TO v DO INSTEAD (INSERT INTO t VALUES (new.a, 1);
NOTIFY x;
UPDATE t SET b = b + 1 WHERE a = new.a RETURNING a);
CREATE RULE ru AS ON UPDATE TO t DO ALSO NOTHING;
ALTER TABLE t DISABLE RULE ru;

-- == instead of trigger
CREATE FUNCTION tf() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new;
END';CREATE TABLE t(a int);
CREATE VIEW v AS SELECT * FROM t;
CREATE TRIGGER g INSTEAD OF INSERT ON v FOR EACH ROW EXECUTE FUNCTION tf();
CREATE CONSTRAINT TRIGGER ct AFTER UPDATE OF a ON t DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (new.a <> old.a) EXECUTE FUNCTION tf();
ALTER TABLE t ENABLE REPLICA TRIGGER ct;

-- == transition
CREATE TABLE t(a int);
CREATE FUNCTION st() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN null;
END';
CREATE TRIGGER g AFTER UPDATE ON t REFERENCING OLD TABLE AS o NEW TABLE AS "N n" FOR EACH STATEMENT EXECUTE FUNCTION st('a', 'b''c');

-- == functions (reworded)
CREATE FUNCTION f(a int, INOUT d text DEFAULT 'x;y', OUT c int, VARIADIC b text[] DEFAULT '{}') LANGUAGE plpgsql COST 5 SECURITY DEFINER SET search_path = public, "a b" SET work_mem='8MB' AS $x$ BEGIN c := 1;
END $x$;
CREATE PROCEDURE p(INOUT a int) LANGUAGE plpgsql AS $$ BEGIN COMMIT;
END $$;
CREATE FUNCTION srf(int) RETURNS TABLE(x int, y text) ROWS 7 PARALLEL SAFE LEAKPROOF LANGUAGE sql BEGIN ATOMIC SELECT 1, 'a;b';
END;
CREATE FUNCTION w(int) RETURNS int LANGUAGE internal WINDOW AS 'window_rank';
DROP FUNCTION w;
CREATE FUNCTION r2() RETURNS int RETURN (SELECT 1);

-- == fn body trap
CREATE FUNCTION f() RETURNS text LANGUAGE sql AS $f$ SELECT E'a\nAS $q$' || 'ARRAY[1]::int[]' $f$;

-- == operators
CREATE FUNCTION eq(text, int) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT $1 = $2::text';
CREATE OPERATOR === (LEFTARG=text, RIGHTARG=int, FUNCTION=eq, COMMUTATOR = ====, RESTRICT=eqsel, JOIN=eqjoinsel);
CREATE OPERATOR FAMILY fam USING btree;
CREATE OPERATOR CLASS oc FOR TYPE int USING btree FAMILY fam AS OPERATOR 1 <, OPERATOR 2 <=, OPERATOR 3 =, OPERATOR 4 >=, OPERATOR 5 >, FUNCTION 1 btint4cmp(int,int);
CREATE TABLE t(a int);
CREATE INDEX ON t (a oc);
CREATE VIEW v AS SELECT 'a'::text === 1 AS x;

-- == casts
CREATE TYPE c AS (a int);
CREATE FUNCTION toc(int) RETURNS c LANGUAGE sql AS 'SELECT ROW($1)::c';
CREATE CAST (int AS c) WITH FUNCTION toc(int) AS ASSIGNMENT;

-- == ts
CREATE TEXT SEARCH DICTIONARY d (TEMPLATE = simple, STOPWORDS = english);
CREATE TEXT SEARCH CONFIGURATION c (COPY = english);
ALTER TEXT SEARCH CONFIGURATION c ALTER MAPPING FOR asciiword WITH d, simple;
CREATE TABLE t(a text, v tsvector GENERATED ALWAYS AS (to_tsvector('public.c', a)) STORED);
INSERT INTO t VALUES ('the cat');

-- == collation conv
CREATE COLLATION cc (provider = libc, locale='C');
CREATE TABLE t(a text COLLATE cc);
CREATE INDEX ON t(a COLLATE "POSIX");
CREATE CONVERSION cv FOR 'UTF8' TO 'LATIN1' FROM utf8_to_iso8859_1;

-- == fdw
CREATE FOREIGN DATA WRAPPER w OPTIONS (a 'b');
CREATE SERVER s TYPE 't' VERSION '1' FOREIGN DATA WRAPPER w OPTIONS (h 'x y');
CREATE USER MAPPING FOR PUBLIC SERVER s OPTIONS (u 'p');
CREATE FOREIGN TABLE ft(a int OPTIONS (c 'd') NOT NULL CHECK (a > 0), b text DEFAULT 'q') SERVER s OPTIONS (t 'x');
CREATE TABLE p(a int, b text) PARTITION BY LIST(a);
CREATE FOREIGN TABLE fp PARTITION OF p FOR VALUES IN (1) SERVER s;

-- == sequences
CREATE SEQUENCE s AS smallint MINVALUE -5 MAXVALUE 100 START 7 INCREMENT -2 CACHE 9 CYCLE;
SELECT nextval('s');
CREATE UNLOGGED SEQUENCE us;
CREATE TABLE t(a serial, b bigint DEFAULT nextval('s'));
INSERT INTO t DEFAULT VALUES;
ALTER SEQUENCE us OWNED BY t.b;
CREATE TABLE i(a bigint GENERATED ALWAYS AS IDENTITY (MINVALUE -100 START -50));
INSERT INTO i DEFAULT VALUES;
CREATE SEQUENCE mx;
SELECT setval('mx', 9223372036854775807);

-- == unlogged
CREATE UNLOGGED TABLE t(a int GENERATED ALWAYS AS IDENTITY);
INSERT INTO t DEFAULT VALUES;

-- == storage
CREATE TABLE t(a text COMPRESSION pglz, b text, c jsonb) WITH (autovacuum_enabled=off, toast.autovacuum_enabled=off, toast_tuple_target=256);
ALTER TABLE t ALTER a SET STORAGE EXTERNAL;
ALTER TABLE t ALTER b SET (n_distinct=-0.5, n_distinct_inherited=5), ALTER b SET STATISTICS 0;
INSERT INTO t SELECT repeat('x',100000), 'y', '{}';

-- == rls (reworded)
CREATE TABLE t(a int, o text);
ALTER TABLE t ENABLE ROW LEVEL SECURITY;
ALTER TABLE t FORCE ROW LEVEL SECURITY;
CREATE POLICY p ON t AS RESTRICTIVE FOR UPDATE TO msr_odd_a, CURRENT_USER, "msr odd C" USING (o = current_user) WITH CHECK (o IN (SELECT 'a'));
CREATE POLICY p2 ON t FOR INSERT WITH CHECK (true);

-- == stats ext
CREATE TABLE t(a int, b int, c text);
CREATE STATISTICS s1 (ndistinct, mcv) ON a, b FROM t;
CREATE STATISTICS s2 ON (lower(c)), (a % 10) FROM t;
ALTER STATISTICS s1 SET STATISTICS 50;

-- == missing value
CREATE TABLE t(a int);
INSERT INTO t SELECT generate_series(1,100);
ALTER TABLE t ADD b text DEFAULT 'def', ADD c timestamptz DEFAULT '2020-01-01';
ALTER TABLE t ALTER b SET DEFAULT 'other';

-- == names
CREATE SCHEMA "S s;--";
CREATE TABLE "S s;--"."t'""$$ /*" ("select" int, "a.b" text DEFAULT E'\\x;\n$$', "é ü" text);
INSERT INTO "S s;--"."t'""$$ /*" VALUES (1, E'\\.', E'\t\r\n\\N');
COMMENT ON COLUMN "S s;--"."t'""$$ /*"."a.b" IS E'x;\n-- y /* \\. $$';
CREATE INDEX "I;1" ON "S s;--"."t'""$$ /*" ("a.b");

-- == long names
CREATE TABLE ttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttt (ccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc int PRIMARY KEY, x int CHECK (x > 0));
CREATE INDEX ON ttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttt(x);

-- == rights
CREATE TABLE t(a int, b int);
GRANT ALL ON t TO msr_odd_a WITH GRANT OPTION;
GRANT SELECT (a), UPDATE (b) ON t TO PUBLIC;
REVOKE ALL ON t FROM postgres;
GRANT SELECT ON t TO postgres;
CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1';
REVOKE ALL ON FUNCTION f() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION f() TO "msr odd C";
CREATE TYPE e AS ENUM ('a');
REVOKE USAGE ON TYPE e FROM PUBLIC;
CREATE SEQUENCE q;
GRANT USAGE ON SEQUENCE q TO msr_odd_b;
CREATE SCHEMA s AUTHORIZATION msr_odd_a;
GRANT USAGE ON SCHEMA s TO PUBLIC;
CREATE TABLE s.t(a int);
ALTER TABLE s.t OWNER TO msr_odd_b;

-- == grantor
CREATE TABLE t(a int);
GRANT SELECT ON t TO msr_odd_a WITH GRANT OPTION;
SET ROLE msr_odd_a;
GRANT SELECT ON t TO msr_odd_b;
RESET ROLE;
CREATE SCHEMA s;
GRANT USAGE ON SCHEMA s TO msr_odd_a WITH GRANT OPTION;
SET ROLE msr_odd_a;
GRANT USAGE ON SCHEMA s TO msr_odd_b;
RESET ROLE;

-- == lo grantor
SELECT lo_from_bytea(777, 'x');
GRANT SELECT ON LARGE OBJECT 777 TO msr_odd_a WITH GRANT OPTION;
SET ROLE msr_odd_a;
GRANT SELECT ON LARGE OBJECT 777 TO msr_odd_b;
RESET ROLE;
ALTER LARGE OBJECT 777 OWNER TO "msr odd C";

-- == default privs
ALTER DEFAULT PRIVILEGES FOR ROLE msr_odd_a GRANT SELECT ON TABLES TO msr_odd_b;
ALTER DEFAULT PRIVILEGES FOR ROLE postgres REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
CREATE SCHEMA s;
ALTER DEFAULT PRIVILEGES FOR ROLE msr_odd_a IN SCHEMA s GRANT ALL ON SEQUENCES TO msr_odd_b WITH GRANT OPTION;
CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE TABLE s.t(a int);

-- == owner fn
CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1';
ALTER FUNCTION f() OWNER TO msr_odd_a;
GRANT EXECUTE ON FUNCTION f() TO msr_odd_b;
CREATE VIEW v AS SELECT f();
ALTER VIEW v OWNER TO msr_odd_b;
CREATE MATERIALIZED VIEW mv AS SELECT 1 AS x;
ALTER MATERIALIZED VIEW mv OWNER TO msr_odd_a;

-- == matview owner rights
CREATE TABLE t(a int);
INSERT INTO t VALUES (1);
GRANT SELECT ON t TO msr_odd_a;
GRANT CREATE, USAGE ON SCHEMA public TO msr_odd_a;
CREATE MATERIALIZED VIEW mv AS SELECT * FROM t;
ALTER MATERIALIZED VIEW mv OWNER TO msr_odd_a;
CREATE UNIQUE INDEX ON mv(a);

-- == matview on matview
CREATE TABLE t(a int);
INSERT INTO t VALUES (1);
CREATE MATERIALIZED VIEW m1 AS SELECT a+1 AS b FROM t;
CREATE MATERIALIZED VIEW a_m2 AS SELECT b*2 AS c FROM m1;
CREATE MATERIALIZED VIEW m3 AS SELECT * FROM a_m2 WITH NO DATA;
CREATE INDEX ON a_m2(c);

-- == matview stale
CREATE TABLE t(a int);
INSERT INTO t VALUES (1);
CREATE MATERIALIZED VIEW m1 AS SELECT a FROM t;
INSERT INTO t VALUES (2);

-- == publication
CREATE TABLE t(a int primary key, b text);
CREATE TABLE u(a int primary key);
CREATE PUBLICATION p FOR TABLE t (a, b) WHERE (a > 3), u WITH (publish='insert,delete', publish_via_partition_root);
CREATE PUBLICATION pa FOR ALL TABLES;
CREATE PUBLICATION e;

-- == event trigger
CREATE FUNCTION ef() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
CREATE EVENT TRIGGER et ON ddl_command_start WHEN TAG IN ('CREATE TABLE','DROP TABLE') EXECUTE FUNCTION ef();
ALTER EVENT TRIGGER et ENABLE ALWAYS;
CREATE EVENT TRIGGER et2 ON sql_drop EXECUTE FUNCTION ef();
ALTER EVENT TRIGGER et2 DISABLE;

-- == language
CREATE FUNCTION lh() RETURNS language_handler LANGUAGE c AS '$libdir/plpgsql', 'plpgsql_call_handler';
CREATE LANGUAGE plx HANDLER lh;
COMMENT ON LANGUAGE plx IS 'x';

-- == am
CREATE ACCESS METHOD heap2 TYPE TABLE HANDLER heap_tableam_handler;
CREATE TABLE t(a int) USING heap2;
INSERT INTO t VALUES (1);

-- == expr defaults
CREATE TABLE t(a timestamptz DEFAULT (now() AT TIME ZONE 'utc'), b date DEFAULT CURRENT_DATE - interval '1 day', c text DEFAULT (CASE WHEN random() > 0.5 THEN 'a' ELSE 'b' END), d int[] DEFAULT ARRAY[1,2]::int[], e varchar(5)[] DEFAULT '{a,b}', f jsonb DEFAULT '{"a": [1]}', g numeric(10,2) DEFAULT 1.5, h bit(3) DEFAULT B'101', i interval DEFAULT '1 day 02:00', j point DEFAULT '(1,2)', k text DEFAULT E'a\\b\n', l bytea DEFAULT '\xdead', m char(3) DEFAULT 'a', n bool DEFAULT (NOT false), o int DEFAULT -1, p float DEFAULT 'NaN', q name DEFAULT current_user, r "char" DEFAULT 'x', s varchar DEFAULT lower('A'::varchar), u uuid DEFAULT gen_random_uuid());

-- == odd checks (reworded)
CREATE TABLE t(a text, b int, c date, d numeric, e varchar(3), CHECK (a ~ '^[a-z]+$' AND b BETWEEN 1 AND 5 OR c > '2020-01-01'), CHECK (a SIMILAR TO 'a%'), CHECK (e LIKE 'x%' ESCAPE '!'), CHECK (b IS DISTINCT FROM 7), CHECK ((a, e) IS NOT NULL), CHECK (d::int % 2 = 0), CHECK (e::text <> ALL (ARRAY['a','b'])), CHECK (e NOT IN ('x','y')), CHECK (extract(year from c) > 2000), CHECK (b = ANY ('{1,2}'::int[])), CHECK (coalesce(a, e, 'z') <> ''), CHECK (substring(a from 1 for 2) <> 'zz'), CHECK (position('a' in a) >= 0), CHECK (NOT (b = 1 AND a = 'x')), CHECK (d > 1 AND d < 10 AND d <> 5), CHECK (ROW(b, d) < ROW(5, 6)), CHECK (overlay(a placing 'x' from 1) <> ''), CHECK (trim(both 'x' from a) <> ''), CHECK (a COLLATE "C" < 'z'), CHECK (e = 'a' OR e = 'b'::varchar(2)), CHECK (a IN (lower(a), 'b', e)), CHECK (jsonb_build_object('a', b) @> '{}'), CHECK (b::bit(3) <> B'111'), CHECK (GREATEST(b, 1) = b), CHECK (xmlconcat(NULL) IS NULL OR true));

-- == odd views (reworded)
CREATE TABLE t(a int, b varchar, c timestamptz, j jsonb);
CREATE VIEW v AS SELECT DISTINCT ON (a) a, b, count(*) FILTER (WHERE b IN ('x','y')) OVER w AS n, row_number() OVER (PARTITION BY a ORDER BY c DESC ROWS BETWEEN 1 PRECEDING AND CURRENT ROW EXCLUDE TIES) FROM t WINDOW w AS (PARTITION BY b) ORDER BY a, b LIMIT 5;
CREATE VIEW v2 AS WITH x AS MATERIALIZED (SELECT * FROM t), y(q) AS (SELECT 1 UNION ALL SELECT 2) SELECT x.*, y.q, l.* FROM x, LATERAL (SELECT * FROM generate_series(1, x.a) WITH ORDINALITY AS g(v, o)) l, y;
CREATE VIEW v3 AS SELECT a, grouping(a), sum(a) FROM t GROUP BY GROUPING SETS ((a), ()) HAVING count(*) > 1;
CREATE VIEW v4 AS VALUES (1, 'a'), (2, NULL);
CREATE VIEW v5 AS SELECT * FROM t NATURAL JOIN (SELECT 1 AS a) s;
CREATE VIEW v6 AS SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY a) FROM t;
CREATE VIEW v7 AS SELECT j->'a'->>'b' AS x, (j #>> '{a,b}')::int, a::text COLLATE "C", c AT TIME ZONE 'UTC' FROM t WHERE b LIKE 'a%' AND EXISTS (SELECT 1 FROM t t2 WHERE t2.a = t.a) FOR UPDATE;

-- == deps order
CREATE FUNCTION f(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1';
CREATE TABLE t(a int, b int GENERATED ALWAYS AS (f(a)) STORED);
CREATE INDEX ON t(f(a));
CREATE DOMAIN d AS int CHECK (f(VALUE) > 0);
CREATE TABLE u(x d);
CREATE FUNCTION g(u) RETURNS SETOF t LANGUAGE sql AS 'SELECT * FROM public.t';
INSERT INTO t VALUES (1);
INSERT INTO u VALUES (1);

-- == zero columns
CREATE TABLE z();
INSERT INTO z DEFAULT VALUES;
INSERT INTO z DEFAULT VALUES;
CREATE TABLE g(x int GENERATED ALWAYS AS (1) STORED);
INSERT INTO g DEFAULT VALUES;

-- == dropped column types
CREATE TYPE e AS ENUM ('a');
CREATE TABLE t(a int, b e, c int);
INSERT INTO t VALUES (1,'a',2);
ALTER TABLE t DROP b;
DROP TYPE e;

-- == security label comment
CREATE TABLE t(a int CONSTRAINT nn NOT NULL, CONSTRAINT ck CHECK (a>0));
COMMENT ON CONSTRAINT ck ON t IS 'c';
COMMENT ON DATABASE postgres IS 'x';
CREATE INDEX i ON t(a);
COMMENT ON INDEX i IS 'x';
CREATE SEQUENCE s;
COMMENT ON SEQUENCE s IS 'x';
CREATE TYPE e AS (a int);
COMMENT ON COLUMN e.a IS 'x';
COMMENT ON TYPE e IS 'y';
CREATE DOMAIN d AS int CONSTRAINT dc CHECK (VALUE > 0);
COMMENT ON CONSTRAINT dc ON DOMAIN d IS 'z';
COMMENT ON SCHEMA public IS '';

-- == index on partition attach comment
CREATE TABLE p(a int) PARTITION BY LIST(a);
CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1);
CREATE INDEX pi ON p(a);
COMMENT ON INDEX p1_a_idx IS 'c';
COMMENT ON INDEX pi IS 'd';
ALTER INDEX p1_a_idx SET (fillfactor = 50);

-- == an aggregate of any type
CREATE AGGREGATE hyp(VARIADIC "any" ORDER BY VARIADIC "any") (sfunc = ordered_set_transition_multi, stype = internal, finalfunc = rank_final, finalfunc_extra, hypothetical);

-- == a generated column that is inherited
CREATE TABLE a(x int, g int GENERATED ALWAYS AS (x+1) STORED);
CREATE TABLE b(y int) INHERITS (a);
INSERT INTO b(x) VALUES (1);

-- == an index whose function needs a search path (<17)
CREATE TABLE t(a int);
CREATE FUNCTION h(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT $1';
CREATE FUNCTION g(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT $1';
INSERT INTO t VALUES (1);
CREATE INDEX ON t(g(a));
CREATE OR REPLACE FUNCTION g(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT h($1)';

-- == a view whose function needs a search path (<17)
CREATE TABLE t(a int);
CREATE FUNCTION g() RETURNS bigint LANGUAGE plpgsql AS 'BEGIN RETURN (SELECT count(*) FROM t);
END';
CREATE MATERIALIZED VIEW m AS SELECT g() AS n;

-- == a check whose function needs a search path
CREATE TABLE a_known(n int);
INSERT INTO a_known SELECT generate_series(1, 3000);
CREATE FUNCTION ok(int) RETURNS boolean LANGUAGE plpgsql AS 'BEGIN RETURN EXISTS (SELECT FROM a_known WHERE n = $1);
END';
CREATE TABLE t(a int CHECK (ok(a)));
INSERT INTO t VALUES (1);

-- == json (18)
CREATE VIEW v AS SELECT * FROM JSON_TABLE('[{"a":1}]'::jsonb, '$[*]' COLUMNS (a int PATH '$.a'));
CREATE VIEW v2 AS SELECT JSON_VALUE('{}'::jsonb, '$.a' RETURNING int DEFAULT 3 ON EMPTY) AS x, JSON_OBJECT('a': 1) AS y, '1' IS JSON AS z;

-- == virtual generated (18)
CREATE TABLE t(a int, g int GENERATED ALWAYS AS (a + 1));
INSERT INTO t VALUES (1);

-- == not null not valid (18)
CREATE TABLE t(a int, b int);
INSERT INTO t VALUES (NULL, 1);
ALTER TABLE t ADD CONSTRAINT nn NOT NULL a NOT VALID;
ALTER TABLE t ADD CONSTRAINT bb NOT NULL b NO INHERIT;

-- == nn names inherit (18)
CREATE TABLE a(x int CONSTRAINT foo NOT NULL);
CREATE TABLE b(x int CONSTRAINT bar NOT NULL) INHERITS (a);
CREATE TABLE c() INHERITS (a);
COMMENT ON CONSTRAINT foo ON a IS 'x';

-- == without overlaps (18)
CREATE TABLE t(id int4range, r daterange, PRIMARY KEY (id, r WITHOUT OVERLAPS));
CREATE TABLE u(id int4range, r daterange, FOREIGN KEY (id, PERIOD r) REFERENCES t (id, PERIOD r));
INSERT INTO t VALUES ('[1,2)', '[2020-01-01,2021-01-01)');

-- == not enforced (18)
CREATE TABLE k(a int primary key);
CREATE TABLE t(a int REFERENCES k NOT ENFORCED, b int CHECK (b > 0) NOT ENFORCED);
INSERT INTO t VALUES (5, -1);

-- == merge fn (18)
CREATE TABLE t(a int);
CREATE FUNCTION f() RETURNS void BEGIN ATOMIC MERGE INTO t USING (VALUES (1)) s(x) ON t.a = s.x WHEN NOT MATCHED THEN INSERT VALUES (s.x) WHEN MATCHED THEN DELETE;
END;

-- == pub gencols (18)
CREATE TABLE t(a int primary key, g int GENERATED ALWAYS AS (a) STORED);
CREATE PUBLICATION p FOR TABLE t WITH (publish_generated_columns = stored);

-- == identity partition (18)
CREATE TABLE p(a bigint GENERATED ALWAYS AS IDENTITY, b int) PARTITION BY LIST(b);
CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1);
INSERT INTO p(b) VALUES (1);

-- == event login (18)
CREATE FUNCTION ef() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
CREATE EVENT TRIGGER et ON login EXECUTE FUNCTION ef();

-- == default maintain (18)
CREATE TABLE t(a int);
GRANT MAINTAIN ON t TO msr_odd_a;

-- == a list in a check (reworded)
CREATE TABLE t (kind varchar(10) CHECK (kind IN ('a', 'b (c)', 'd::e')), n numeric CHECK (n = ANY (ARRAY[1, 2])));

-- == a list in a domain (reworded)
CREATE DOMAIN size AS varchar CHECK (VALUE IN ('s', 'm', 'l')) DEFAULT CASE WHEN 's'::varchar IN ('s', 'm') THEN 's' END;
CREATE TABLE t (s size);

-- == a list in a default (reworded)
CREATE TABLE t (v varchar, ok boolean DEFAULT ('a'::varchar IN ('a', 'b')),  g boolean GENERATED ALWAYS AS (v IN ('a', 'b')) STORED);

-- == a list in a views (reworded)
CREATE TABLE t (v varchar, w char(3));
CREATE VIEW one AS SELECT v IN ('a', 'b') AS ok FROM t;
CREATE MATERIALIZED VIEW two AS SELECT count(*) FROM t WHERE w NOT IN ('a', 'b');

-- == a list in a index (reworded)
CREATE TABLE t (v varchar);
CREATE INDEX ON t (v) WHERE v IN ('a', 'b');
CREATE INDEX ON t ((v IN ('a', 'b')));

-- == a list in a rule (reworded)
CREATE TABLE t (v varchar);
CREATE RULE r AS ON DELETE TO t WHERE old.v IN ('a', 'b') DO INSTEAD NOTHING;

-- == a list in a trigger (reworded)
CREATE TABLE t (v varchar);
CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END';
CREATE TRIGGER g BEFORE INSERT ON t FOR EACH ROW WHEN (new.v IN ('a', 'b')) EXECUTE FUNCTION f();

-- == a list in a policy (reworded)
CREATE TABLE t (v varchar);
CREATE POLICY p ON t USING (v IN ('a', 'b')) WITH CHECK (v IN ('a', 'b'));

-- == a list in a function (reworded)
CREATE TABLE t (v varchar);
CREATE FUNCTION f(a boolean DEFAULT 'a'::varchar IN ('a', 'b')) RETURNS bigint BEGIN ATOMIC SELECT count(*) FROM t WHERE v IN ('a', 'b'); END;

-- == a list in a statistics (reworded)
CREATE TABLE t (v varchar, n int);
CREATE STATISTICS st ON (v IN ('a', 'b')), n FROM t;

-- == a list in a partitions (reworded)
CREATE TABLE t (v varchar) PARTITION BY LIST ((v IN ('a', 'b')));
CREATE TABLE t1 PARTITION OF t FOR VALUES IN (true);

-- == a parent's late column (reworded)
CREATE TABLE parent (a int);
CREATE TABLE child (b int) INHERITS (parent);
ALTER TABLE parent ADD COLUMN c int;
INSERT INTO child VALUES (1, 2, 3);

-- == two parents (reworded)
CREATE TABLE p1 (a int);
CREATE TABLE p2 (b int);
CREATE TABLE child (c int);
ALTER TABLE child ADD COLUMN b int;
ALTER TABLE child INHERIT p2;
ALTER TABLE p1 ADD COLUMN z int;
ALTER TABLE child ADD COLUMN a int, ADD COLUMN z int;
ALTER TABLE child INHERIT p1;
INSERT INTO child VALUES (1, 2, 3, 4);

-- == a published column after a dropped one
CREATE TABLE t (x int, id int PRIMARY KEY, v int);
ALTER TABLE t DROP COLUMN x;
CREATE PUBLICATION p FOR TABLE t (id, v);

-- == a published schema
CREATE SCHEMA s;
CREATE TABLE s.t (id int);
CREATE PUBLICATION p FOR TABLES IN SCHEMA s;

-- == an aggregate of no arguments
CREATE AGGREGATE nothing(*) (sfunc = int8inc, stype = bigint, initcond = '0');

-- == an ordered-set aggregate
CREATE AGGREGATE odd(float8 ORDER BY anyelement) (sfunc = ordered_set_transition, stype = internal, finalfunc = percentile_disc_final, finalfunc_extra);

-- == public made anew
DROP SCHEMA public CASCADE;
CREATE SCHEMA public;
CREATE TABLE t (id int);

-- == public made anew, with a comment
DROP SCHEMA public CASCADE;
CREATE SCHEMA public;
COMMENT ON SCHEMA public IS 'ours';

-- == public without its comment
COMMENT ON SCHEMA public IS NULL;

-- == a comment on an inherited constraint
CREATE TABLE parent (a int, CONSTRAINT positive CHECK (a > 0));
CREATE TABLE child () INHERITS (parent);
COMMENT ON CONSTRAINT positive ON child IS 'inherited';

-- == a comment on a partition's trigger
CREATE TABLE t (a int) PARTITION BY LIST (a);
CREATE TABLE t1 PARTITION OF t FOR VALUES IN (1);
CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END';
CREATE TRIGGER g AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION f();
COMMENT ON TRIGGER g ON t1 IS 'a copy';

-- == a comment on a partition's foreign key
CREATE TABLE k (a int PRIMARY KEY);
CREATE TABLE t (a int REFERENCES k) PARTITION BY LIST (a);
CREATE TABLE t1 PARTITION OF t FOR VALUES IN (1);
COMMENT ON CONSTRAINT t_a_fkey ON t1 IS 'a copy';

-- == words of rights in a body
CREATE FUNCTION f() RETURNS text LANGUAGE sql AS $$ SELECT 'OWNER TO "nobody here"'; $$;COMMENT ON FUNCTION f() IS 'GRANT SELECT ON t TO "nobody else"';

-- == a comment that ends in an owner
CREATE TABLE t (id int);
ALTER TABLE t ADD CHECK (id::text <> 'OWNER TO x');
COMMENT ON TABLE t IS 'ALTER TABLE x OWNER TO nobody';

-- == an event trigger and a view to fill
CREATE TABLE t (id int); CREATE MATERIALIZED VIEW mv AS SELECT count(*) FROM t;CREATE FUNCTION no() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no DDL, %', tg_tag; END $$;CREATE EVENT TRIGGER et ON ddl_command_end EXECUTE FUNCTION no(); COMMENT ON EVENT TRIGGER et IS 'strict';
