"""The production database. Run it to see whether it can be reached; the other examples import it.

PROD_DATABASE_URL  its address, `postgresql://user:password@host:5432/database`
"""

from __future__ import annotations

import asyncio
import os
import sys

from msr_async import ConfigError, MsrError
from msr_async.postgres import PostgresHandler


def production_handler() -> PostgresHandler:
    """The handler of production, not connected yet: open it with `async with`.

    Raises:
        ConfigError: without an address in PROD_DATABASE_URL.
    """
    url = os.environ.get("PROD_DATABASE_URL", "")
    if not url:
        raise ConfigError("PROD_DATABASE_URL is not set.", hint="Set it to postgresql://user:password@host/database.")
    # With this label a restore of another database's backup is refused until somebody says the target's name.
    return PostgresHandler(url, environment="production")


async def look() -> None:
    async with production_handler() as handler:
        await handler.check_connection()
        info = await handler.describe()
        applied = await handler.schema_version.applied()
    print(f"{info.label}: PostgreSQL {info.server_version}, {info.environment}, {len(applied)} migrations applied")


def main() -> int:
    try:
        asyncio.run(look())
    except MsrError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
