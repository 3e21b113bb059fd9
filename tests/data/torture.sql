-- A small database of everything that a logical backup of PostgreSQL can get wrong. For 15 and newer:
--     psql -X -v ON_ERROR_STOP=1 -f torture.sql -d DATABASE
-- Lines that end in "-- full build only" want the contrib extensions, ICU or libxml; tests/support/torture.py leaves them
-- out for servers that were built without. Such a line is a whole statement or a whole item, so what remains is whole.
--
-- Left out, because even pg_dump and psql do not bring it back as it was:
--   * what belongs to the cluster or is only dumped with --create: roles, tablespaces, ALTER DATABASE, ALTER ROLE IN DATABASE
--   * functions without a fixed search_path inside checks, generated columns and index expressions
--   * values of regclass that name an index, a constraint's trigger or a materialised view's index
--   * subscriptions: a slot elsewhere belongs to them, and a database with one cannot be dropped
--   * security labels, which need a label provider
--   * a child of ALTER TABLE ... INHERIT whose columns stand in another order than its parent's: they are put in the parent's
--   * a view that begins with VALUES: each round adds a blank to its text
SET client_min_messages = warning;
SET check_function_bodies = on;

-- == roles: they belong to the cluster, so they may be there already =============================
DO $roles$
DECLARE role_name text;
BEGIN
  FOREACH role_name IN ARRAY ARRAY['torture_app', 'torture_owner', 'Torture "Odd" rôle; --'] LOOP
    BEGIN
      EXECUTE format('CREATE ROLE %I NOLOGIN', role_name);
    EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
    END;
  END LOOP;
END
$roles$;

-- == schemas and extensions ======================================================================
CREATE SCHEMA shop; CREATE SCHEMA "Weird Schema"; CREATE SCHEMA audit; CREATE SCHEMA "select"; CREATE SCHEMA empty_schema;
CREATE SCHEMA owned AUTHORIZATION torture_owner;
COMMENT ON SCHEMA shop IS 'It''s the shop; a "comment"';
COMMENT ON SCHEMA public IS 'public, with a comment of its own';
GRANT USAGE ON SCHEMA shop TO torture_app, "Torture ""Odd"" rôle; --" WITH GRANT OPTION;
REVOKE ALL ON SCHEMA public FROM PUBLIC; GRANT USAGE ON SCHEMA public TO PUBLIC;
CREATE SCHEMA ext; -- full build only
CREATE EXTENSION pgcrypto SCHEMA ext; CREATE EXTENSION hstore; CREATE EXTENSION citext; CREATE EXTENSION btree_gist; -- full build only
REVOKE EXECUTE ON FUNCTION ext.gen_salt(text) FROM PUBLIC; COMMENT ON EXTENSION citext IS 'a changed comment'; -- full build only

-- == types =======================================================================================
CREATE TYPE shop.status AS ENUM ('new', 'shipped', 'it''s, odd');
ALTER TYPE shop.status ADD VALUE 'paid' BEFORE 'shipped'; ALTER TYPE shop.status ADD VALUE 'packed' AFTER 'paid';
CREATE TYPE shop.address AS (street text, zip varchar(10), geo point);
CREATE TYPE shop.shrunk AS (a int, gone text, b text COLLATE "C"); ALTER TYPE shop.shrunk DROP ATTRIBUTE gone; ALTER TYPE shop.shrunk ADD ATTRIBUTE c numeric(5,1);
CREATE TYPE no_fields AS ();
CREATE TYPE no_values AS ENUM ();
CREATE DOMAIN shop.email AS text CONSTRAINT has_at CHECK (VALUE ~ '^[^@]+@[^@]+$');
CREATE DOMAIN shop.work_email AS shop.email COLLATE "C" DEFAULT 'nobody@example.org' CONSTRAINT at_work CHECK (VALUE !~ '@home');
CREATE DOMAIN shop.posint AS int NOT NULL CHECK (VALUE > 0);
CREATE DOMAIN shop.tags AS text[] CHECK (cardinality(VALUE) < 10);
CREATE DOMAIN shop.place AS shop.address CHECK ((VALUE).street <> '');
CREATE DOMAIN shop.late AS int; ALTER DOMAIN shop.late ADD CONSTRAINT later CHECK (VALUE > 100) NOT VALID;
CREATE TYPE shop.floatrange AS RANGE (subtype = float8, subtype_diff = float8mi, multirange_type_name = shop.many_floats);
CREATE TYPE "Weird Schema"."Mixed Type" AS ("Field One" int, "field,two" text);
COMMENT ON TYPE shop.status IS 'a status'; COMMENT ON DOMAIN shop.email IS 'an address'; COMMENT ON CONSTRAINT has_at ON DOMAIN shop.email IS 'one @';
COMMENT ON COLUMN shop.address.zip IS 'with letters';
GRANT USAGE ON TYPE shop.status TO torture_app; REVOKE USAGE ON DOMAIN shop.email FROM PUBLIC; ALTER TYPE shop.shrunk OWNER TO torture_owner;
CREATE TYPE label;
CREATE FUNCTION label_in(cstring) RETURNS label LANGUAGE internal IMMUTABLE STRICT AS 'textin';
CREATE FUNCTION label_out(label) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT AS 'textout';
CREATE TYPE label (INPUT = label_in, OUTPUT = label_out, INTERNALLENGTH = VARIABLE, STORAGE = extended, DEFAULT = 'none');
CREATE TABLE base_typed (id int, l label DEFAULT 'x', ls label[]); INSERT INTO base_typed VALUES (1, 'a label', '{a,"b c"}');

-- == functions, operators and the like that tables use ===========================================
CREATE FUNCTION shop.twice(int) RETURNS int LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS 'SELECT $1 * 2';
CREATE FUNCTION shop.stamp(prefix text DEFAULT E'it''s \\ "p"', n int DEFAULT shop.twice(21), VARIADIC rest text[] DEFAULT '{}') RETURNS text
  LANGUAGE plpgsql STABLE COST 7 SET search_path = shop, pg_temp SET "DateStyle" = 'ISO, DMY' AS $body$
BEGIN
  -- $$ and $_$ and 'quotes' and \backslashes and a "name"; none of them ends this
  RETURN prefix || $in$ $$ $in$ || n || array_to_string(rest, E'\n');
END
$body$;
CREATE FUNCTION atomic_sum(a int, b int DEFAULT 3) RETURNS int LANGUAGE sql IMMUTABLE BEGIN ATOMIC SELECT a + b; SELECT a + b + shop.twice(1); END;
CREATE FUNCTION "Weird Schema"."Odd ""Function"""("In" int, OUT "Out" text, INOUT "Both" int) LANGUAGE sql AS 'SELECT $1::text, $2';
CREATE FUNCTION anything(anyelement, anyarray DEFAULT NULL) RETURNS SETOF anyelement LANGUAGE sql ROWS 3 AS 'SELECT $1';
CREATE FUNCTION anything(text) RETURNS TABLE (a int, "B" text) LANGUAGE sql SECURITY DEFINER AS $$ SELECT 1, $1 $$;
ALTER FUNCTION anything(text) OWNER TO torture_owner; REVOKE ALL ON FUNCTION anything(text) FROM PUBLIC; GRANT EXECUTE ON FUNCTION anything(text) TO torture_app;
CREATE PROCEDURE p_noop(INOUT x int DEFAULT 1) LANGUAGE sql AS 'SELECT 1';
CREATE AGGREGATE my_sum(int) (sfunc = int4pl, stype = int, initcond = '0', msfunc = int4pl, minvfunc = int4mi, mstype = int, parallel = safe);
CREATE AGGREGATE my_percentile(float8 ORDER BY anyelement) (sfunc = ordered_set_transition, stype = internal, finalfunc = percentile_disc_final, finalfunc_extra);
COMMENT ON FUNCTION shop.twice(int) IS 'twice'; COMMENT ON AGGREGATE my_sum(int) IS 'sum'; COMMENT ON PROCEDURE p_noop(int) IS 'does nothing';
CREATE FUNCTION shop.near(int, int) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT abs($1 - $2) < 3';
CREATE FUNCTION shop.far(int, int) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT abs($1 - $2) >= 3';
CREATE OPERATOR shop.~~~ (leftarg = int, rightarg = int, function = shop.near, commutator = OPERATOR(shop.~~~), negator = OPERATOR(shop.!~~~), restrict = eqsel);
CREATE OPERATOR shop.!~~~ (leftarg = int, rightarg = int, function = shop.far, commutator = OPERATOR(shop.!~~~), negator = OPERATOR(shop.~~~));
COMMENT ON OPERATOR shop.~~~ (int, int) IS 'about the same';
CREATE FUNCTION shop.backwards(int, int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT btint4cmp($2, $1)';
CREATE OPERATOR FAMILY shop.reversed USING btree;
CREATE OPERATOR CLASS shop.int_reversed FOR TYPE int USING btree FAMILY shop.reversed AS OPERATOR 1 > (int, int), OPERATOR 2 >= (int, int), OPERATOR 3 =, OPERATOR 4 <= (int, int), OPERATOR 5 < (int, int), FUNCTION 1 shop.backwards(int, int);
CREATE CAST (shop.address AS text) WITH INOUT AS ASSIGNMENT;
CREATE FUNCTION shop.status_rank(shop.status) RETURNS int LANGUAGE sql STABLE AS $$ SELECT array_position(enum_range(NULL::shop.status), $1) $$;
CREATE CAST (shop.status AS int) WITH FUNCTION shop.status_rank(shop.status); COMMENT ON CAST (shop.status AS int) IS 'its rank';
CREATE COLLATION shop.plain FROM "C"; COMMENT ON COLLATION shop.plain IS 'by bytes';
CREATE COLLATION shop.no_case (provider = icu, locale = 'und-u-ks-level2', deterministic = false); -- full build only
CREATE CONVERSION shop.latin FOR 'LATIN1' TO 'UTF8' FROM iso8859_1_to_utf8;
CREATE TEXT SEARCH DICTIONARY shop.stems (template = snowball, language = 'english', stopwords = 'english');
CREATE TEXT SEARCH CONFIGURATION shop.english_stems (COPY = simple); ALTER TEXT SEARCH CONFIGURATION shop.english_stems ALTER MAPPING FOR asciiword, word WITH shop.stems, simple;
CREATE TEXT SEARCH TEMPLATE shop.as_is (init = dsimple_init, lexize = dsimple_lexize);
CREATE TEXT SEARCH PARSER shop.words (start = prsd_start, gettoken = prsd_nexttoken, end = prsd_end, lextypes = prsd_lextype);
CREATE TRANSFORM FOR int LANGUAGE sql (FROM SQL WITH FUNCTION prsd_lextype(internal), TO SQL WITH FUNCTION int4recv(internal));
CREATE ACCESS METHOD other_heap TYPE TABLE HANDLER heap_tableam_handler;
CREATE TABLE on_other_heap (id int) USING other_heap; INSERT INTO on_other_heap VALUES (1);

-- == tables ======================================================================================
CREATE TABLE shop.customers (id serial PRIMARY KEY, email shop.email UNIQUE, name text NOT NULL, addr shop.address, joined timestamptz NOT NULL);
ALTER TABLE shop.customers ADD COLUMN attrs hstore; -- full build only
INSERT INTO shop.customers(email, name, addr, joined) SELECT 'c'||i||'@example.org', 'Customer '||i, ROW('Street '||i, i::text, point(i, -i))::shop.address, '2024-01-01 00:00+00'::timestamptz + i * interval '1 day' FROM generate_series(1,100) i;
CREATE TABLE shop.orders (id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, customer_id int NOT NULL REFERENCES shop.customers, status shop.status NOT NULL,
  created timestamptz NOT NULL, qty int NOT NULL, price numeric(12,2) NOT NULL, total numeric GENERATED ALWAYS AS (qty * price) STORED, sku text NOT NULL, note text);
CREATE INDEX orders_created ON shop.orders (created); CREATE INDEX orders_customer ON shop.orders (customer_id);
INSERT INTO shop.orders(customer_id, status, created, qty, price, sku, note) SELECT 1 + i % 100, (enum_range(NULL::shop.status))[1 + i % 5], '2024-01-01 00:00+00'::timestamptz + i * interval '1 minute', i % 9, i / 7.0, 'SKU'||i, CASE WHEN i % 3 = 0 THEN 'note '||i END FROM generate_series(1,3000) i;
CREATE TABLE shop.docs (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), body jsonb NOT NULL, tags text[], seen tstzrange, ip inet, d interval);
CREATE INDEX docs_body ON shop.docs USING gin (body jsonb_path_ops);
INSERT INTO shop.docs(body, tags) SELECT jsonb_build_object('n', i, 'deep', jsonb_build_array(i, NULL, 'x')), ARRAY['t'||i, NULL] FROM generate_series(1,50) i;
CREATE TABLE shop.blobs (id int PRIMARY KEY, name text, data bytea NOT NULL);
DO $$ BEGIN FOR i IN 0..19 LOOP EXECUTE format('CREATE TABLE shop.small_%s (id int PRIMARY KEY, k text UNIQUE, v numeric, ts timestamp DEFAULT now())', lpad(i::text,2,'0')); EXECUTE format('INSERT INTO shop.small_%s(id, k) VALUES (1, %L)', lpad(i::text,2,'0'), 'k'||i); END LOOP; END $$;
-- a row beyond 8 MiB between small ones, many columns, many odd settings
CREATE TABLE long_row (id int PRIMARY KEY, t text); INSERT INTO long_row VALUES (1, 'short'); INSERT INTO long_row SELECT 2, string_agg(md5(i::text), E'\n') FROM generate_series(1,280000) i; INSERT INTO long_row VALUES (3, 'short again');
DO $$ BEGIN EXECUTE (SELECT 'CREATE TABLE wide (' || string_agg(format('c%s %s', i, (ARRAY['int','text','numeric(9,3)','timestamptz'])[1 + i % 4]), ', ') || ')' FROM generate_series(1,300) i); END $$;
INSERT INTO wide(c1, c4, c300) VALUES ('x', 1, 2), (NULL, NULL, NULL);
CREATE TABLE settings (id int PRIMARY KEY, a text COMPRESSION pglz, b bytea, c int, d text COLLATE "C") WITH (fillfactor = 70, autovacuum_enabled = false, toast.autovacuum_enabled = false, parallel_workers = 2);
ALTER TABLE settings ALTER a SET STORAGE EXTERNAL, ALTER b SET STORAGE MAIN, ALTER c SET STATISTICS 500, ALTER c SET (n_distinct = -0.5), ALTER d SET STATISTICS 0;
ALTER TABLE shop.blobs ALTER data SET STORAGE EXTERNAL; INSERT INTO shop.blobs VALUES (1, 'b', '\x00ff5c0a'), (2, E'tab\t', '');
CREATE UNLOGGED TABLE cache_u (k text PRIMARY KEY, v text); INSERT INTO cache_u VALUES ('a','1');
CREATE TEMP TABLE not_dumped (id int); INSERT INTO not_dumped VALUES (1);
CREATE TABLE empty_t (id int);
CREATE TABLE zero_cols (); INSERT INTO zero_cols DEFAULT VALUES; INSERT INTO zero_cols DEFAULT VALUES; INSERT INTO zero_cols DEFAULT VALUES;
CREATE TABLE lost_all_columns (a int); INSERT INTO lost_all_columns VALUES (1), (2); ALTER TABLE lost_all_columns DROP COLUMN a;
CREATE TABLE typed OF shop.address (zip WITH OPTIONS DEFAULT '0000', PRIMARY KEY (street)); INSERT INTO typed VALUES ('s', 'z', '(1,2)');
CREATE TABLE all_generated (a int GENERATED ALWAYS AS (1 + 1) STORED, b text GENERATED ALWAYS AS ('x' || 'y') STORED); INSERT INTO all_generated DEFAULT VALUES; INSERT INTO all_generated DEFAULT VALUES;
CREATE TABLE twin (id int, side text DEFAULT 'public'); INSERT INTO twin VALUES (1); CREATE TABLE shop.twin (id int, side text DEFAULT 'shop'); INSERT INTO shop.twin VALUES (1), (2);
CREATE TABLE owned.by_other (id int GENERATED ALWAYS AS IDENTITY, v text); ALTER TABLE owned.by_other OWNER TO torture_owner; INSERT INTO owned.by_other(v) VALUES ('o');
-- foreign keys: cycle, self reference, deferrable, multi-column, actions, not valid with orphans
CREATE TABLE a (id int PRIMARY KEY, b_id int); CREATE TABLE b (id int PRIMARY KEY, a_id int NOT NULL REFERENCES a);
ALTER TABLE a ADD CONSTRAINT a_b_fk FOREIGN KEY (b_id) REFERENCES b;
INSERT INTO a SELECT i, NULL FROM generate_series(1,100) i; INSERT INTO b SELECT i, 101-i FROM generate_series(1,100) i; UPDATE a SET b_id = id;
CREATE TABLE tree (id int PRIMARY KEY, parent_id int REFERENCES tree ON DELETE CASCADE, name text);
INSERT INTO tree SELECT i, CASE WHEN i<100 THEN i+1 END, 'n'||i FROM generate_series(1,100) i ORDER BY i DESC;
CLUSTER tree USING tree_pkey;  -- child before parent in the heap from here on
CREATE TABLE def1 (id int PRIMARY KEY, x int); CREATE TABLE def2 (id int PRIMARY KEY, d1 int REFERENCES def1 DEFERRABLE INITIALLY DEFERRED); INSERT INTO def1 VALUES (1,1); INSERT INTO def2 VALUES (1,1);
CREATE TABLE pair (x int, y text, UNIQUE (x, y) DEFERRABLE); CREATE TABLE pair_base (x int, y text, z int, PRIMARY KEY (x, y) INCLUDE (z)); INSERT INTO pair_base VALUES (1, 'y', 0);
CREATE TABLE pair_ref (id int, x int, y text DEFAULT 'y', FOREIGN KEY (x, y) REFERENCES pair_base MATCH FULL ON UPDATE CASCADE ON DELETE SET NULL, CONSTRAINT "some" FOREIGN KEY (x, y) REFERENCES pair_base ON DELETE SET DEFAULT (y)); INSERT INTO pair_ref VALUES (1, 1, 'y'), (2, NULL, NULL);
CREATE TABLE orphans (id int, a_id int); INSERT INTO orphans VALUES (1, 999999), (-5, 1); ALTER TABLE orphans ADD CONSTRAINT orphan_fk FOREIGN KEY (a_id) REFERENCES a NOT VALID; ALTER TABLE orphans ADD CONSTRAINT positive CHECK (id > 0) NOT VALID;
-- constraints and indexes of every kind
CREATE TABLE excl (during tstzrange, EXCLUDE USING gist (during WITH &&) WHERE (NOT isempty(during)), room int4range, CONSTRAINT rooms EXCLUDE USING gist (room WITH &&, during WITH &&) DEFERRABLE INITIALLY DEFERRED); INSERT INTO excl VALUES ('[2024-01-01 00:00+00,2024-01-02 00:00+00)', '[1,2)');
CREATE TABLE excl_int (during tstzrange, room int, EXCLUDE USING gist (room WITH =, during WITH &&)); -- full build only
CREATE TABLE indexed (id int, k text, v int, t tsvector, p point, ts timestamptz, j jsonb, n name, UNIQUE NULLS NOT DISTINCT (v), CHECK (id IS NOT NULL AND k <> '') NO INHERIT, CONSTRAINT "odd ""check"" %" CHECK (v < 1000));
INSERT INTO indexed SELECT i, 'k'||i, i, to_tsvector('simple', 'word'||i), point(i,i), '2024-01-01 00:00+00'::timestamptz + i * interval '1h', '{}', 'n'||i FROM generate_series(1,200) i;
CREATE INDEX i_partial ON indexed (v) WHERE k LIKE 'k1%' AND v IS NOT NULL; CREATE INDEX i_expr ON indexed (lower(k), (v % 10) DESC NULLS LAST, shop.twice(v)); CREATE UNIQUE INDEX i_cover ON indexed (id) INCLUDE (k, v) WITH (fillfactor = 50);
CREATE INDEX i_coll ON indexed (k COLLATE "C" text_pattern_ops DESC); CREATE INDEX i_hash ON indexed USING hash (k); CREATE INDEX i_brin ON indexed USING brin (ts timestamptz_minmax_multi_ops(values_per_range = 16)) WITH (pages_per_range = 4); CREATE INDEX i_gin ON indexed USING gin (t) WITH (fastupdate = off); CREATE INDEX i_gist ON indexed USING gist (t tsvector_ops(siglen = 200)); CREATE INDEX i_sp ON indexed USING spgist (p kd_point_ops);
CREATE INDEX i_own ON indexed (v shop.int_reversed); CREATE UNIQUE INDEX "i ""odd"" name" ON indexed (id, k); ALTER INDEX i_expr ALTER COLUMN 2 SET STATISTICS 400; COMMENT ON INDEX i_expr IS 'an index'; COMMENT ON CONSTRAINT "odd ""check"" %" ON indexed IS 'a check';
ALTER TABLE indexed CLUSTER ON i_cover; ALTER TABLE indexed ALTER id SET NOT NULL; ALTER TABLE indexed REPLICA IDENTITY USING INDEX i_cover; ALTER TABLE settings REPLICA IDENTITY FULL; ALTER TABLE long_row REPLICA IDENTITY NOTHING;
CREATE UNIQUE INDEX promoted ON pair (x); ALTER TABLE pair ADD CONSTRAINT now_a_constraint UNIQUE USING INDEX promoted;
CREATE STATISTICS st_orders (dependencies, ndistinct, mcv) ON customer_id, qty FROM shop.orders; CREATE STATISTICS shop.st_expr ON (lower(sku)), (qty % 3) FROM shop.orders; ALTER STATISTICS st_orders SET STATISTICS 77; COMMENT ON STATISTICS st_orders IS 'related';
-- sequences
CREATE SEQUENCE standalone INCREMENT 7 MINVALUE -100 START 5 CACHE 10 CYCLE MAXVALUE 1000; SELECT nextval('standalone'), nextval('standalone');
CREATE SEQUENCE untouched START 42;
CREATE SEQUENCE downwards INCREMENT -3 MAXVALUE -1 MINVALUE -1000; SELECT nextval('downwards');
CREATE UNLOGGED SEQUENCE cached_seq; SELECT setval('cached_seq', 17, false);
CREATE SEQUENCE "Weird Schema"."Seq ""q""" AS smallint; SELECT nextval('"Weird Schema"."Seq ""q"""'); COMMENT ON SEQUENCE "Weird Schema"."Seq ""q""" IS 'odd'; GRANT USAGE ON SEQUENCE untouched TO torture_app;
CREATE SEQUENCE used_up AS smallint; SELECT setval('used_up', 32767);
CREATE TABLE ident_always (id int GENERATED ALWAYS AS IDENTITY (START 10 INCREMENT 5), v text); INSERT INTO ident_always(v) VALUES ('x'),('y'); DELETE FROM ident_always WHERE v='y';
CREATE TABLE ident_named (id smallint GENERATED BY DEFAULT AS IDENTITY (SEQUENCE NAME "Own Name" MINVALUE -5 MAXVALUE 5 CYCLE), other bigint GENERATED ALWAYS AS IDENTITY, v text); INSERT INTO ident_named(v) VALUES ('x'); ALTER TABLE ident_named ALTER id RESTART WITH -3;
CREATE TABLE ser (id bigserial PRIMARY KEY, v text); INSERT INTO ser(v) VALUES ('x'),('y'),('z'); DELETE FROM ser WHERE v='z';
CREATE TABLE shared1 (id int DEFAULT nextval('standalone'), v text); INSERT INTO shared1(v) VALUES ('s'); CREATE TABLE adopted (id int DEFAULT nextval('untouched'), v text); ALTER SEQUENCE untouched OWNED BY adopted.v;
-- generated and dropped columns, defaults with functions
CREATE TABLE gen_t (a int, w int GENERATED ALWAYS AS (a*2) STORED, b text, t tsvector GENERATED ALWAYS AS (to_tsvector('simple', b)) STORED); INSERT INTO gen_t(a,b) VALUES (1,'hello world'),(2,NULL);
CREATE TABLE dropped (x int, gone text, y int); INSERT INTO dropped VALUES (1,'g',2); ALTER TABLE dropped DROP COLUMN gone; ALTER TABLE dropped ADD COLUMN z text DEFAULT 'fast default';
CREATE TABLE defaults (id int DEFAULT shop.twice(4), s text DEFAULT shop.stamp(), at timestamptz DEFAULT CURRENT_TIMESTAMP, e shop.status DEFAULT 'new', w shop.work_email, arr int[] DEFAULT '{1,2}', nul text DEFAULT NULL, esc text DEFAULT E'a\nb\\c''d'); INSERT INTO defaults(at) VALUES ('2024-02-03 04:05:06.789+00');

-- == every built-in type =========================================================================
CREATE TABLE alltypes (id int PRIMARY KEY, b bool, i2 int2, i8 int8, f4 float4, f8 float8, n numeric, mo money, c char(5), vc varchar(20), t text, by bytea, ch "char", nm name,
  ts timestamp, tz timestamptz, d date, ti time, tt timetz, iv interval, u uuid, ip inet, ci cidr, ma macaddr, ma8 macaddr8, bi bit(5), vb bit varying, j json, jb jsonb, jp jsonpath, x xml,
  tv tsvector, tq tsquery, p point, ln line, ls lseg, bx box, pa path, po polygon, cr circle, ia int[], ta text[], ea shop.status[], ca shop.address[], r int4range, mr int4multirange, tr tstzrange, fr shop.floatrange,
  o oid, rc regclass, rt regtype, rp regproc, rop regprocedure, rr regrole, rn regnamespace, lsn pg_lsn, snap pg_snapshot, e shop.status, ad shop.address, wt "Weird Schema"."Mixed Type", em shop.email, ma9 shop.floatrange[],
  xi xid, x8 xid8, ci2 cid, ti2 tid, rcf regconfig, rcl regcollation, mf shop.many_floats, pl shop.place, tg shop.tags, np numeric(6,-2), iv2 interval day to second(3), ts0 timestamptz(0), vb3 varbit(3)[], d2 date[][]);
ALTER TABLE alltypes ADD COLUMN hs hstore, ADD COLUMN ct citext; -- full build only
INSERT INTO alltypes(id) VALUES (0);
INSERT INTO alltypes VALUES (1, true, -32768, -9223372036854775808, 'NaN', '-Infinity', 'NaN', -12.34, 'ab', 'v', E'tab\tnl\nbs\\ cr\r vt\v ff\f bell\x07 \\N "q" ''s'' é漢字😀 e\u0301 \u202e', '\x00ff5c0a', 'x', 'name',
  '-infinity','infinity','infinity','24:00:00','23:59:59.999999-15:59:59','1 year 2 mons -3 days 04:05:06.789012','a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11','2001:db8::1/64','10.0.0.0/8','08:00:2b:01:02:03','08:00:2b:01:02:03:04:05',B'10101',B'1',
  '{"dup": 1, "dup": 2,   "b": 1e400}', '{"n": 1e400, "z": 123456789012345678901234567890.12345, "u": "\u20ac"}', '$.a[*] ? (@ > 1)', NULL, '''it''''s'':1A b:2', 'a & !b <-> c', '(1.1,-0)','{1,2,3}','[(0,0),(1,1)]','(1,1),(0,0)','[(0,0),(1,1)]','((0,0),(1,1),(2,0))','<(0,0),1>',
  '[0:2]={1,NULL,3}', E'{"a,b","NULL",NULL,"q\\"q","\\\\"}', '{new,"it''s, odd"}', ARRAY[ROW('s "t", x','1',point(1,2))::shop.address, NULL], '[1,10)', '{[1,3),[5,8)}', '[2020-01-01 00:00+00,)', '(1.5,2.5]',
  4294967295, 'shop.orders', 'shop.status', 'now', 'lower(text)', 'postgres', 'shop', '16/B374D848', '10:20:10,14,15', 'it''s, odd', ROW('x',NULL,NULL), ROW(1,'a,b'), 'A@b', '{"[1,2]",empty}',
  '4294967295', '18446744073709551615', '7', '(4294967295,65535)', 'shop.english_stems', '"C"', '{[1,2),[3.5,4]}', ROW('s', NULL, NULL), '{a,NULL}', 123456, '1 day 02:03:04.5678', '2024-01-01 00:00:00.6+00', '{101,1}', '{{2024-01-01,infinity}}');
UPDATE alltypes SET x = '<a>&amp;<b/></a>', hs = 'a=>1,b=>NULL,"c d"=>"e\"f"', ct = 'CiTeXt' WHERE id = 1; -- full build only
INSERT INTO alltypes(id,f4,f8,n,mo,ts,tz,d,iv,i8,t,vc,c,ia,ta,jb,r,by) VALUES (2, 1.1, 0.1::float8+0.2::float8, 'Infinity', 92233720368547758.07, '4713-01-01 00:00 BC', '294276-12-31 23:59:59.999999+00', '5874897-12-31', '-178000000 years', 9223372036854775807, '', '\N', '', '{}', '{{a,b},{c,d}}', 'null', 'empty', ''),
  (3, '-0', '-0', '-Infinity', 0, '2024-01-01 00:00:00.000001', '0044-03-15 12:00+00 BC', '-infinity', '0', 0, '\.', '\.', ' x', '{{{1}}}', '{NULL}', '"\\u0000x"', '(,)', '\x5c2e'),
  (4, 3.4028235e38, 4.9406564584124654e-324, 1e1000::numeric/3, NULL, NULL, NULL, '0001-01-01 BC', '00:00:00.000001', NULL, repeat('x', 300000), NULL, NULL, NULL, NULL, '[]', NULL, decode(repeat('ab', 300000),'hex'));

-- == names =======================================================================================
CREATE TABLE "Weird Schema"."Order Items ""x""; DROP TABLE--" ("select" int, "Mixed Case" text, "with ""quote""" text, "dol$lar" int, "naïve é" text, E_ int, "new
line" text, "tab	col" text, "%s %(x)s {y} :z $1" text, "semi;colon" text, PRIMARY KEY ("select"));
INSERT INTO "Weird Schema"."Order Items ""x""; DROP TABLE--" VALUES (1,'m','q',3,'n',4,'nl','tab','fmt','semi');
CREATE TABLE "Weird Schema"."a.b" ("c.d" int); INSERT INTO "Weird Schema"."a.b" VALUES (1); CREATE TABLE "Weird Schema"." " (" " int, "\" text, "''" text); INSERT INTO "Weird Schema"." " VALUES (1, '\', '''');
CREATE TABLE "Weird Schema"."new
line \n 'quote' $1 %s *?[" (id int PRIMARY KEY); INSERT INTO "Weird Schema"."new
line \n 'quote' $1 %s *?[" VALUES (1);
CREATE TABLE "Weird Schema"."таблица 漢字 😀" ("колонка" int, "Å" int, U&"A\030A" int); INSERT INTO "Weird Schema"."таблица 漢字 😀" VALUES (1, 2, 3);
CREATE TABLE "select"."table" ("order" int, "user" int, "end" int, "null" int); INSERT INTO "select"."table" VALUES (1, 2, 3, 4); CREATE TABLE "select".orders (id int); CREATE TABLE "user" ("default" int DEFAULT 1);
CREATE TABLE a_name_of_63_bytes_that_is_as_long_as_postgres_allows_it_to_be_ (id serial PRIMARY KEY, column_of_63_bytes_which_is_also_as_long_as_postgres_lets_it_be_x text UNIQUE); INSERT INTO a_name_of_63_bytes_that_is_as_long_as_postgres_allows_it_to_be_ DEFAULT VALUES;
CREATE TABLE "ORDERS" (id int); CREATE TABLE "Orders" (id int); CREATE TABLE orders (id int); INSERT INTO "ORDERS" VALUES (1); INSERT INTO "Orders" VALUES (2); INSERT INTO orders VALUES (3);
CREATE TABLE schema_version_of_somebody (version text PRIMARY KEY); CREATE SCHEMA msr_; CREATE TABLE msr_.schema_version (id int);
COMMENT ON TABLE shop.orders IS 'orders; with ''quotes'' and
newline'; COMMENT ON COLUMN shop.orders.sku IS 'sku \ $$'; COMMENT ON COLUMN "Weird Schema"."Order Items ""x""; DROP TABLE--"."naïve é" IS 'é';

-- == partitions and inheritance ==================================================================
CREATE TABLE events (id bigint GENERATED ALWAYS AS IDENTITY, ts timestamptz NOT NULL, kind int, payload text DEFAULT 'root', PRIMARY KEY (id, ts)) PARTITION BY RANGE (ts);
CREATE TABLE events_2023 PARTITION OF events FOR VALUES FROM ('2023-01-01 00:00+00') TO ('2024-01-01 00:00+00');
CREATE TABLE events_2024 PARTITION OF events FOR VALUES FROM ('2024-01-01 00:00+00') TO ('2025-01-01 00:00+00') PARTITION BY HASH (id);
CREATE TABLE events_2024_0 PARTITION OF events_2024 FOR VALUES WITH (MODULUS 2, REMAINDER 0); CREATE TABLE events_2024_1 PARTITION OF events_2024 FOR VALUES WITH (MODULUS 2, REMAINDER 1);
CREATE TABLE events_def PARTITION OF events (payload DEFAULT 'leaf') DEFAULT;
CREATE INDEX events_kind ON events (kind); CREATE INDEX events_only ON ONLY events (payload);  -- the second stays invalid
INSERT INTO events(ts,kind,payload) SELECT '2022-06-01 00:00+00'::timestamptz + i * interval '3 hours', i%7, 'event '||i FROM generate_series(1,6000) i;
CREATE TABLE shuffled (a int, b text NOT NULL, c numeric) PARTITION BY LIST (a);
CREATE TABLE "Weird Schema".shuffled_1 (c numeric, gone int, b text NOT NULL, a int CHECK (a IS NOT NULL)); ALTER TABLE "Weird Schema".shuffled_1 DROP COLUMN gone; ALTER TABLE shuffled ATTACH PARTITION "Weird Schema".shuffled_1 FOR VALUES IN (1, 2);
CREATE TABLE shuffled_null PARTITION OF shuffled FOR VALUES IN (NULL); CREATE TABLE shuffled_3 PARTITION OF shuffled FOR VALUES IN (3); INSERT INTO shuffled VALUES (1,'one',1.5), (2,'two',NULL), (3,'three',3), (NULL,'none',0);
CREATE TABLE was_partition PARTITION OF shuffled FOR VALUES IN (9); INSERT INTO shuffled VALUES (9,'nine',9); ALTER TABLE shuffled DETACH PARTITION was_partition;
CREATE TABLE no_partitions (id int, k text) PARTITION BY RANGE (lower(k), id); CREATE TABLE bounds (x int, y int) PARTITION BY RANGE (x, y); CREATE TABLE bounds_low PARTITION OF bounds FOR VALUES FROM (MINVALUE, MINVALUE) TO (1, MAXVALUE); INSERT INTO bounds VALUES (0, 0);
CREATE TABLE part_ref (id int, e_id bigint, e_ts timestamptz, FOREIGN KEY (e_id, e_ts) REFERENCES events); INSERT INTO part_ref SELECT 1, id, ts FROM events WHERE kind = 3 LIMIT 5;
CREATE TABLE inh_parent (id int NOT NULL, v text DEFAULT 'p', CONSTRAINT inherited CHECK (id > 0), CONSTRAINT alone CHECK (v <> 'x') NO INHERIT); CREATE TABLE inh_other (id int, w int);
CREATE TABLE inh_child (extra int, v text DEFAULT 'c', CONSTRAINT inherited CHECK (id > 0)) INHERITS (inh_parent); CREATE TABLE inh_both (CHECK (w < 100)) INHERITS (inh_parent, inh_other); CREATE TABLE inh_late (id int NOT NULL, v text, w int, CONSTRAINT inherited CHECK (id > 0)); ALTER TABLE inh_late INHERIT inh_parent;
INSERT INTO inh_parent VALUES (1,'p'); INSERT INTO inh_child VALUES (2,'c',3); INSERT INTO inh_both VALUES (4,'b',5); INSERT INTO inh_late VALUES (7,'l',6); INSERT INTO inh_other VALUES (8,9);

-- == code that hangs on tables ===================================================================
CREATE TABLE audit.log (id bigserial PRIMARY KEY, tbl text, op text, at timestamptz DEFAULT now());
CREATE FUNCTION audit.log_change() RETURNS trigger LANGUAGE plpgsql AS $f$ BEGIN INSERT INTO audit.log(tbl, op) VALUES (TG_TABLE_NAME, TG_OP || coalesce(TG_ARGV[0], '')); RETURN NULL; END $f$;
CREATE TRIGGER ser_audit AFTER INSERT OR UPDATE OF v OR DELETE ON ser FOR EACH ROW EXECUTE FUNCTION audit.log_change('arg''s', E'b\\c', '3');
CREATE TRIGGER ser_always AFTER INSERT ON b FOR EACH ROW EXECUTE FUNCTION audit.log_change(); ALTER TABLE b ENABLE ALWAYS TRIGGER ser_always;
CREATE TRIGGER ser_never AFTER INSERT ON ser FOR EACH ROW WHEN (NEW.v IS NOT NULL) EXECUTE FUNCTION audit.log_change(); ALTER TABLE ser DISABLE TRIGGER ser_never; CREATE TRIGGER ser_replica BEFORE TRUNCATE ON ser EXECUTE FUNCTION audit.log_change(); ALTER TABLE ser ENABLE REPLICA TRIGGER ser_replica;
CREATE CONSTRAINT TRIGGER later AFTER INSERT ON ser FROM shop.orders DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION audit.log_change(); COMMENT ON TRIGGER later ON ser IS 'deferred';
CREATE TRIGGER counted AFTER UPDATE ON ser REFERENCING OLD TABLE AS old_rows NEW TABLE AS "New Rows" FOR EACH STATEMENT EXECUTE FUNCTION audit.log_change();
CREATE TRIGGER on_root AFTER INSERT ON shuffled FOR EACH ROW EXECUTE FUNCTION audit.log_change(); ALTER TABLE shuffled_3 DISABLE TRIGGER on_root;
CREATE FUNCTION upper_v() RETURNS trigger LANGUAGE plpgsql AS $f$ BEGIN NEW.v := upper(NEW.v); RETURN NEW; END $f$;
CREATE TABLE trig (id int PRIMARY KEY, v text); INSERT INTO trig VALUES (1,'lower'); CREATE TRIGGER trig_up BEFORE INSERT ON trig FOR EACH ROW EXECUTE FUNCTION upper_v();
CREATE FUNCTION ignore_ddl() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN RAISE DEBUG 'ddl: %', tg_tag; END $$;
CREATE EVENT TRIGGER torture_ddl ON ddl_command_end WHEN TAG IN ('CREATE TABLE', 'DROP TABLE') EXECUTE FUNCTION ignore_ddl(); CREATE EVENT TRIGGER torture_drop ON sql_drop EXECUTE FUNCTION ignore_ddl(); ALTER EVENT TRIGGER torture_drop DISABLE; COMMENT ON EVENT TRIGGER torture_ddl IS 'watches';
CREATE RULE r_ins AS ON INSERT TO empty_t WHERE NEW.id < 0 DO INSTEAD NOTHING; CREATE RULE r_also AS ON DELETE TO empty_t DO ALSO (INSERT INTO audit.log(tbl) VALUES ('a'); SELECT 1); ALTER TABLE empty_t DISABLE RULE r_also; COMMENT ON RULE r_ins ON empty_t IS 'no negatives';

-- == views =======================================================================================
CREATE VIEW shop.v_orders AS SELECT status, count(*) n, sum(total) s FROM shop.orders GROUP BY 1;
CREATE VIEW shop.v_by_key AS SELECT c.*, count(o.id) AS n FROM shop.customers c LEFT JOIN shop.orders o ON o.customer_id = c.id GROUP BY c.id;  -- leans on the primary key, so it comes after it
CREATE VIEW shop.v_on_it AS SELECT id, n FROM shop.v_by_key WHERE n > 1; CREATE MATERIALIZED VIEW shop.mv_on_it AS SELECT count(*) FROM shop.v_on_it;
CREATE VIEW shop.v_odd WITH (security_barrier, security_invoker = true, check_option = cascaded) AS SELECT id, qty AS "Quan ""tity""", shop.twice(qty) AS "?column?" FROM shop.orders WHERE qty > 2;
CREATE VIEW shop.v_local AS SELECT * FROM shop.v_odd WHERE id > 5 WITH LOCAL CHECK OPTION; ALTER VIEW shop.v_local ALTER COLUMN id SET DEFAULT 77; COMMENT ON VIEW shop.v_local IS 'v'; COMMENT ON COLUMN shop.v_local.id IS 'i';
CREATE RECURSIVE VIEW ancestors (id, up, depth) AS SELECT id, parent_id, 1 FROM tree UNION ALL SELECT a.id, t.parent_id, a.depth + 1 FROM ancestors a JOIN tree t ON t.id = a.up WHERE a.depth < 5;
CREATE FUNCTION of_view(v shop.v_orders) RETURNS text LANGUAGE sql AS $$ SELECT $1.status::text $$; CREATE VIEW shop.v_calls AS SELECT of_view(v) AS t, (SELECT atomic_sum(1)) AS one FROM shop.v_orders v;
CREATE FUNCTION of_key(i int) RETURNS bigint LANGUAGE sql BEGIN ATOMIC SELECT n FROM shop.v_by_key WHERE id = i; END;
CREATE FUNCTION upsert(i int) RETURNS void LANGUAGE sql BEGIN ATOMIC INSERT INTO trig VALUES (i, 'x') ON CONFLICT ON CONSTRAINT trig_pkey DO NOTHING; END;
CREATE RULE v_ins AS ON INSERT TO shop.v_orders DO INSTEAD INSERT INTO audit.log(tbl) VALUES (NEW.status::text); CREATE TRIGGER v_upd INSTEAD OF UPDATE ON shop.v_by_key FOR EACH ROW EXECUTE FUNCTION audit.log_change();
CREATE VIEW nothing AS SELECT; CREATE VIEW shop."v odd" (a, "B") AS SELECT 1, NULL::text UNION ALL (SELECT 2, 'x' ORDER BY 1 LIMIT 3); CREATE VIEW twin_join AS SELECT t.id, s.side FROM twin t JOIN shop.twin s USING (id);
CREATE MATERIALIZED VIEW shop.mv AS SELECT customer_id % 10 AS k, sum(total) s FROM shop.orders GROUP BY 1; CREATE UNIQUE INDEX ON shop.mv (k); ALTER MATERIALIZED VIEW shop.mv CLUSTER ON mv_k_idx; COMMENT ON MATERIALIZED VIEW shop.mv IS 'stored';
CREATE MATERIALIZED VIEW shop.mv2 WITH (fillfactor = 80) AS SELECT max(s) m FROM shop.mv; CREATE MATERIALIZED VIEW shop.mv_empty AS SELECT 1 AS x WITH NO DATA; CREATE VIEW shop.v_mv AS SELECT * FROM shop.mv2; CREATE MATERIALIZED VIEW a_comes_first AS SELECT * FROM shop.v_mv;

-- == who may do what =============================================================================
CREATE TABLE rls_t (id int, owner text, secret text); INSERT INTO rls_t VALUES (1,'torture_app','a'),(2,'someone','b');
ALTER TABLE rls_t ENABLE ROW LEVEL SECURITY; ALTER TABLE rls_t FORCE ROW LEVEL SECURITY; CREATE POLICY own ON rls_t USING (owner = current_user); GRANT SELECT, INSERT ON rls_t TO torture_app;
CREATE POLICY "odd policy" ON rls_t AS RESTRICTIVE FOR INSERT TO torture_app, "Torture ""Odd"" rôle; --" WITH CHECK (secret IS NOT NULL AND EXISTS (SELECT 1 FROM trig)); COMMENT ON POLICY own ON rls_t IS 'mine'; CREATE POLICY unused ON ser FOR SELECT TO PUBLIC USING (true);
GRANT SELECT ON ALL TABLES IN SCHEMA shop TO torture_app; GRANT UPDATE (name, email), SELECT (id) ON shop.customers TO "Torture ""Odd"" rôle; --"; GRANT ALL ON trig TO torture_app WITH GRANT OPTION; GRANT INSERT ON trig TO PUBLIC; REVOKE DELETE ON ser FROM postgres;
ALTER DEFAULT PRIVILEGES FOR ROLE torture_owner IN SCHEMA shop GRANT SELECT, INSERT ON TABLES TO torture_app; ALTER DEFAULT PRIVILEGES FOR ROLE torture_owner REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC; ALTER DEFAULT PRIVILEGES FOR ROLE postgres IN SCHEMA audit GRANT USAGE ON SEQUENCES TO "Torture ""Odd"" rôle; --";
GRANT SELECT ON shop.mv TO PUBLIC; ALTER VIEW shop.v_orders OWNER TO torture_owner;

-- == the outside world ===========================================================================
CREATE PUBLICATION everything FOR ALL TABLES WITH (publish = 'insert, truncate'); CREATE PUBLICATION some_of_it FOR TABLE shop.orders (id, qty, sku) WHERE (qty > 3), ser WITH (publish = 'insert', publish_via_partition_root = true); CREATE PUBLICATION a_schema FOR TABLES IN SCHEMA shop, "Weird Schema" WITH (publish = 'insert'); CREATE PUBLICATION nothing_yet; COMMENT ON PUBLICATION everything IS 'all';
CREATE FOREIGN DATA WRAPPER nowhere OPTIONS (debug 'true', "Odd ""option""" 'it''s'); CREATE SERVER far_away TYPE 't' VERSION '1' FOREIGN DATA WRAPPER nowhere OPTIONS (host 'example.org'); GRANT USAGE ON FOREIGN SERVER far_away TO torture_app;
CREATE USER MAPPING FOR torture_app SERVER far_away OPTIONS (user 'u', password 'not a secret'); CREATE USER MAPPING FOR PUBLIC SERVER far_away;
CREATE FOREIGN TABLE far_table (id int OPTIONS (column_name 'ID') NOT NULL, v text DEFAULT 'f', CHECK (id > 0)) SERVER far_away OPTIONS (table_name 'T'); COMMENT ON FOREIGN TABLE far_table IS 'cannot be read: there is no handler'; GRANT SELECT ON far_table TO torture_app;

-- == large objects ===============================================================================
SELECT lo_from_bytea(0, decode(repeat('00ff', 100000), 'hex')); CREATE TABLE lo_ref (id int, lo oid); INSERT INTO lo_ref SELECT 1, oid FROM pg_largeobject_metadata; COMMENT ON TABLE lo_ref IS 'holds a large object oid';
SELECT lo_from_bytea(0, 'hello'); SELECT lo_create(4000000001); SELECT lo_from_bytea(4000000002, decode((SELECT string_agg(md5(i::text), '') FROM generate_series(1,131072) i), 'hex')); INSERT INTO lo_ref VALUES (2, 4000000001), (3, 4000000002);
COMMENT ON LARGE OBJECT 4000000002 IS 'two MiB; it''s large'; ALTER LARGE OBJECT 4000000002 OWNER TO torture_owner; GRANT SELECT ON LARGE OBJECT 4000000002 TO torture_app; GRANT SELECT, UPDATE ON LARGE OBJECT 4000000001 TO PUBLIC;
SELECT lo_put(lo_from_bytea(4000000003, 'start'), 5000, 'after a hole');
