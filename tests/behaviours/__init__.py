"""The numbered behaviours of the migration engine, through the public API, on every database of `WORLDS`."""
