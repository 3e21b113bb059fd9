"""Backups and restores of Firestore, side by side with other ways: `python -m benchmarks.firestore --help`."""
