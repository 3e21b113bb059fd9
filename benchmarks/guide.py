"""The way that guides show: every table into one JSON string, and back row by row. `python -m benchmarks.guide ...`

It restores rows only, into a schema that somebody else has made, each INSERT on its own as the guides have it.
"""

from __future__ import annotations

import asyncio
import json
import sys
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg

from .data import TABLES


async def backup(dsn: str, file: Path) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        tables = {table: [dict(row) for row in await connection.fetch(f"SELECT * FROM {table}")] for table in TABLES}
        file.write_text(json.dumps({"tables": tables}, default=_plain))
    finally:
        await connection.close()


async def restore(dsn: str, file: Path) -> None:
    content = json.loads(file.read_text())
    connection = await asyncpg.connect(dsn)
    try:
        for table, rows in content["tables"].items():
            types = await _types(connection, table)
            names = ", ".join(types)
            values = ", ".join(_cast(number, kind) for number, kind in enumerate(types.values(), 1))
            for row in rows:
                await connection.execute(f"INSERT INTO {table} ({names}) VALUES ({values})", *map(_text, row.values()))
    finally:
        await connection.close()


async def _types(connection: asyncpg.Connection, table: str) -> dict[str, str]:
    found = await connection.fetch(
        "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute "
        "WHERE attrelid = $1::text::regclass AND attnum > 0 ORDER BY attnum",
        table,
    )
    return {row[0]: row[1] for row in found}


def _cast(number: int, kind: str) -> str:
    return f"${number}::{kind}" if kind.endswith("[]") else f"${number}::text::{kind}"


def _text(value: Any) -> Any:
    return value if value is None or isinstance(value, str | list) else str(value)


def _plain(value: Any) -> str:
    match value:
        case bytes():
            return "\\x" + value.hex()
        case datetime():
            return value.isoformat()
        case Decimal() | UUID():
            return str(value)
        case _:
            raise TypeError(f"{type(value).__name__} has no place in JSON")


if __name__ == "__main__":
    asyncio.run({"backup": backup, "restore": restore}[sys.argv[1]](sys.argv[2], Path(sys.argv[3])))
