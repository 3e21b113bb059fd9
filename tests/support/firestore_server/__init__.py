"""A Firestore of our own for tests: a real gRPC server, and what no emulator does: PartitionQuery and faults on command."""

from __future__ import annotations

from .faults import Faults
from .serving import Call, FirestoreServer

__all__ = ["Call", "Faults", "FirestoreServer"]
