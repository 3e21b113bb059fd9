"""The engine: order and safety. It knows no database, no bucket and no terminal; decisions are pure, doing is apart."""
