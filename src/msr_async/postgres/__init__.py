"""PostgreSQL: one handler, streamed COPY in and out, everything back in one transaction.

A *target* is how to reach a database, a *session* the one connection that migrations, history and lock share, a
*snapshot* one point in time that many connections read, a *restoration* one transaction that replaces everything.
"""

from .handler import PostgresHandler

__all__ = ["PostgresHandler"]
