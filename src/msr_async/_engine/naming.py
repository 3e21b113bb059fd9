"""What a new backup is called."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime

from ..config import BackupConfig


def new_token() -> str:
    """Eight random hexadecimal digits, which keep two backups of the same second apart."""
    return secrets.token_hex(4)


def backup_name(config: BackupConfig, *, now: datetime, token: str) -> str:
    """`<prefix>[-<custom>][-<utc timestamp>]-<token>[-<suffix>].<extension>`: in one folder, names sort by time."""
    stamp = now.astimezone(UTC).strftime(config.timestamp_format) if config.timestamp else ""
    pieces = (config.prefix, config.custom, stamp, token, config.suffix)
    return "-".join(piece for piece in pieces if piece) + f".{config.extension}"
