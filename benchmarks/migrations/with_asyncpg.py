"""The least that a runner can do: `python -m benchmarks.migrations.with_asyncpg DSN FOLDER`.

It reads its history, then for each new file one transaction with the file and an INSERT. No lock, no checksums, no
timeouts, and no word of what went wrong where.
"""

from __future__ import annotations

import time

_BEGUN = time.perf_counter()

import asyncio  # noqa: E402 - the clock comes before everything else
import json  # noqa: E402
import sys  # noqa: E402
from pathlib import Path  # noqa: E402

import asyncpg  # noqa: E402

_IMPORTED = time.perf_counter()


async def migrate(dsn: str, folder: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        applied = {row["name"] for row in await connection.fetch("SELECT name FROM history")}
    except asyncpg.UndefinedTableError:
        applied = set()
        await connection.execute(
            "CREATE TABLE history (name text PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now())"
        )
    for path in sorted(Path(folder).glob("*.sql")):
        if path.name not in applied:
            script = path.read_text()
            async with connection.transaction():
                await connection.execute(script)
                await connection.execute("INSERT INTO history (name) VALUES ($1)", path.name)
    await connection.close()


if __name__ == "__main__":
    asyncio.run(migrate(*sys.argv[1:3]))
    print(json.dumps({"imports": _IMPORTED - _BEGUN, "inside": time.perf_counter() - _IMPORTED}))
