"""Firestore: migrations, backups and restores of a database in Native mode."""

from __future__ import annotations

__all__: list[str] = []
