"""yoyo as its own command runs it: `python -m benchmarks.migrations.with_yoyo DSN FOLDER`."""

from __future__ import annotations

import time

_BEGUN = time.perf_counter()

import json  # noqa: E402 - the clock comes before everything else
import sys  # noqa: E402

import psycopg  # noqa: E402, F401 - yoyo would import it when it connects
import yoyo  # noqa: E402

_IMPORTED = time.perf_counter()


def migrate(dsn: str, folder: str) -> None:
    backend = yoyo.get_backend(dsn.replace("postgresql://", "postgresql+psycopg://"))
    migrations = yoyo.read_migrations(folder)
    with backend.lock():
        backend.apply_migrations(backend.to_apply(migrations))


if __name__ == "__main__":
    migrate(*sys.argv[1:3])
    print(json.dumps({"imports": _IMPORTED - _BEGUN, "inside": time.perf_counter() - _IMPORTED}))
