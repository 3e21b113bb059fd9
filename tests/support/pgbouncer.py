"""A real PgBouncer in transaction pooling, in front of a server of the tests."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

from msr_async.testing import keeper
from msr_async.testing.embedded import EmbeddedPostgres
from tests.support.servers import Database

START_DEADLINE = 20.0
STOP_DEADLINE = 30.0

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
            self._ports[key] = self._start(program, database.server, pool_size)
        return f"postgresql://postgres@127.0.0.1:{self._ports[key]}/{database.name}"

    def stop(self) -> None:
        self._stack.close()

    def _start(self, program: Path, server: EmbeddedPostgres, pool_size: int) -> int:
        user = pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else None  # it refuses root, as the server does
        folder = Path(tempfile.mkdtemp(prefix="msr-pgbouncer-", dir="/tmp" if user is not None else None))
        if user is not None:
            os.chown(folder, user, -1)
        port = _free_port()
        host, _, server_port = server.dsn("x").partition("@")[2].partition("/")[0].rpartition(":")
        settings = folder / "pgbouncer.ini"
        settings.write_text(_SETTINGS.format(server_host=host, server_port=server_port, port=port, pool_size=pool_size))
        process = subprocess.Popen(
            # the keeper ends it with this process, in whatever way that ends
            [
                *(sys.executable, "-I", "-S", keeper.__file__, str(folder), "" if user is None else str(user)),
                *(str(program), str(settings)),
            ],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )
        self._stack.callback(_stop, process, folder)
        deadline = time.monotonic() + START_DEADLINE
        while not _answers(port):
            if process.poll() is not None or time.monotonic() > deadline:
                log = folder / "log"
                pytest.fail(f"PgBouncer did not start: {log.read_text() if log.exists() else 'no log'}")
            time.sleep(0.02)
        return port


def _stop(process: subprocess.Popen[bytes], folder: Path) -> None:
    assert process.stdin is not None
    process.stdin.close()
    process.wait(STOP_DEADLINE)
    shutil.rmtree(folder, ignore_errors=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0
