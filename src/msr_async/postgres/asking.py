"""Questions in one round trip: COPY goes by the simple protocol, which a prepared SELECT does not.

Through a pooling proxy that matters twice: between two messages of the extended protocol the server may change.
"""

from __future__ import annotations

from typing import Any

import msgspec

from .driver import Connection

_ROWS = msgspec.json.Decoder(dict[str, Any])


async def ask_text(connection: Connection, query: str) -> bytes:
    """The one JSON column of `query`, a line each, all of them in one text."""
    received = bytearray()

    async def receive(piece: bytes) -> None:
        received.extend(piece)

    # JSON holds no control characters: csv with these never quotes
    await connection.copy_from_query(query, output=receive, format="csv", delimiter="\x02", quote="\x01")
    return bytes(received)


async def ask(connection: Connection, query: str) -> list[dict[str, Any]]:
    """The rows of `query`, by the names of its columns. It takes no parameters: values stand in it as literals."""
    rows: list[dict[str, Any]] = _ROWS.decode_lines(
        await ask_text(connection, f"SELECT pg_catalog.row_to_json(answer) FROM ({query}) answer")
    )
    return rows
