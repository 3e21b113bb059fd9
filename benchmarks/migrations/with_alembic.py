"""Alembic as its own command runs it: `python -m benchmarks.migrations.with_alembic DSN FOLDER all|each`.

`all` is its default, one transaction around the whole run; `each` is a transaction a migration, as the others have.
"""

from __future__ import annotations

import time

_BEGUN = time.perf_counter()

import json  # noqa: E402 - the clock comes before everything else
import sys  # noqa: E402

import psycopg  # noqa: E402, F401 - SQLAlchemy would import it when it connects
from alembic import command  # noqa: E402
from alembic.config import Config  # noqa: E402

_IMPORTED = time.perf_counter()


def migrate(dsn: str, folder: str, transactions: str) -> None:
    config = Config()
    config.set_main_option("script_location", folder)
    config.set_main_option("sqlalchemy.url", dsn.replace("postgresql://", "postgresql+psycopg://"))
    config.attributes["each"] = transactions == "each"
    command.upgrade(config, "head")


if __name__ == "__main__":
    migrate(*sys.argv[1:4])
    print(json.dumps({"imports": _IMPORTED - _BEGUN, "inside": time.perf_counter() - _IMPORTED}))
