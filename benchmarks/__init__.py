"""How fast backup and restore are, side by side with PostgreSQL's own programs: `python -m benchmarks --help`."""
