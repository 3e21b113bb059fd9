CREATE TABLE orders (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  cents bigint NOT NULL
);
INSERT INTO orders (cents) SELECT n FROM generate_series(1, 5000) n;
