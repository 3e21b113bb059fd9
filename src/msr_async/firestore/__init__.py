"""Firestore: migrations, backups and restores of a database in Native mode."""

from __future__ import annotations

from .handler import FirestoreHandler

__all__ = ["FirestoreHandler"]
