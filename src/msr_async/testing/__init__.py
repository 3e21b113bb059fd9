"""For tests: a database in memory, a real PostgreSQL in a folder (`embedded`), and suites that a backend must pass.

`contracts` holds the suites; they and `embedded` are imported by name.
"""

from __future__ import annotations

from .memory import Conflict, MemoryConnection, MemoryDatabase, MemoryHandler

__all__ = ["Conflict", "MemoryConnection", "MemoryDatabase", "MemoryHandler"]
