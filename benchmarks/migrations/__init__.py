"""How fast migrations run, side by side with other tools: `python -m benchmarks.migrations --help`."""
