"""A real PgBouncer in transaction pooling, in front of a server of the tests."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

from msr_async.testing.embedded import EmbeddedPostgres
from msr_async.testing.serving import KeptServer, server_user
from tests.support.servers import Database

_SETTINGS = """
[databases]
* = host={server_host} port={server_port} user=postgres

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = {pool_size}
max_client_conn = 200
max_db_connections = 0
query_wait_timeout = 30
"""


def find_pgbouncer(environ: Mapping[str, str] = os.environ) -> Path | None:
    """`MSR_PGBOUNCER`, or what is on PATH, or where Debian puts it."""
    if named := environ.get("MSR_PGBOUNCER"):
        return Path(named)
    found = shutil.which("pgbouncer", path=f"{environ.get('PATH', '')}{os.pathsep}/usr/sbin{os.pathsep}/usr/local/sbin")
    return Path(found) if found else None


class Bouncers:
    """Starts one in front of each server that is asked for: `bouncers(database)` is a URL that goes through it."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._ports: dict[tuple[int, int], int] = {}

    def __call__(self, database: Database, *, pool_size: int = 10) -> str:
        """Skips the test without a PgBouncer, and fails it when MSR_REQUIRE_SERVICES=1."""
        key = (database.major, pool_size)
        if key not in self._ports:
            program = find_pgbouncer()
            if program is None:
                reason = "no PgBouncer here: see 'Servers for the tests' in CONTRIBUTING.md"
                if os.environ.get("MSR_REQUIRE_SERVICES") == "1":
                    pytest.fail(reason)
                pytest.skip(reason)
            bouncer = _Bouncer(program, database.server, pool_size)
            bouncer.start()
            self._stack.callback(bouncer.stop)
            self._ports[key] = bouncer.port
        return f"postgresql://postgres@127.0.0.1:{self._ports[key]}/{database.name}"

    def stop(self) -> None:
        self._stack.close()


class _Bouncer(KeptServer):
    def __init__(self, program: Path, server: EmbeddedPostgres, pool_size: int) -> None:
        super().__init__("PgBouncer")
        self._program = program
        self._server = server
        self._pool_size = pool_size

    def start(self) -> None:
        user = server_user()  # it refuses root, as the server does
        with self._starting("msr-pgbouncer-", user) as folder:
            settings = folder / "pgbouncer.ini"

            def command(port: int) -> list[str]:
                settings.write_text(
                    _SETTINGS.format(
                        server_host=self._server.host,
                        server_port=self._server.port,
                        port=port,
                        pool_size=self._pool_size,
                    )
                )
                return [str(self._program), str(settings)]

            self._serve(folder, command, user=user, hint="Look at its settings in this module.")

    def _ready(self, folder: Path, port: int) -> bool:
        with socket.socket() as probe:
            probe.settimeout(1)
            return probe.connect_ex((self.host, port)) == 0
