"""A database that cannot be reached, or not by this role: one sentence, exit code 7, no secret."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Iterator

import pytest

from msr_async.testing.embedded import EmbeddedPostgres
from tests.cli.command import Command
from tests.support.servers import SETTINGS, Database, Servers, only_newest

SECRET = "s3cr3t-canary"


def refused(cli: Command, url: str) -> str:
    cli.write("V202601010900_one.up.sql", "SELECT 1;")
    done = cli("status", "--database-url", url)
    assert (done.code, done.out) == (7, "")
    assert done.err.startswith("error: ")
    assert "Traceback" not in done.err
    assert SECRET not in done.err
    in_json = cli("backup", "create", "--format", "json", "--database-url", url)
    assert (in_json.code, in_json.error["type"]) == (7, "ConnectionFailed")
    assert SECRET not in in_json.out + in_json.err
    assert in_json.error["hint"]
    return done.err


def test_a_server_that_is_down(cli: Command) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    assert str(port) in refused(cli, f"postgresql://u:{SECRET}@127.0.0.1:{port}/x")


def test_a_host_that_is_unknown(cli: Command) -> None:
    assert "nowhere.invalid" in refused(cli, f"postgresql://u:{SECRET}@nowhere.invalid/x")


@only_newest
def test_a_database_that_does_not_exist(cli: Command, database: Database) -> None:
    assert "missing_one" in refused(cli, database.server.dsn("missing_one"))


@pytest.fixture
def guarded(servers: Servers) -> Iterator[EmbeddedPostgres]:
    """A server that asks everybody but its superuser for a password."""
    with tempfile.NamedTemporaryFile("w", prefix="msr-hba-") as rules:
        rules.write("host all postgres 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\n")
        rules.flush()
        os.chmod(rules.name, 0o644)  # the server may run as another user
        options = SETTINGS | {"hba_file": rules.name}
        server = EmbeddedPostgres(18, bin_dir=servers.get(18).bin_dir, options=options)
        try:
            server.start()
            server.run("psql", "-Xqc", f"CREATE ROLE someone LOGIN PASSWORD '{SECRET}'", "postgres")
            yield server
        finally:
            server.stop()


def test_a_wrong_password_and_the_right_one(cli: Command, guarded: EmbeddedPostgres) -> None:
    place = f"{guarded.host}:{guarded.port}/postgres"
    assert "someone" in refused(cli, f"postgresql://someone:{SECRET}-wrong@{place}")
    done = cli("status", "--database-url", f"postgresql://someone:{SECRET}@{place}")
    assert done.code == 0
    assert SECRET not in done.out + done.err


def test_a_role_that_may_not_read_a_table(cli: Command, guarded: EmbeddedPostgres) -> None:
    guarded.run("psql", "-Xqc", "CREATE TABLE hidden (id int)", "postgres")
    url = f"postgresql://someone:{SECRET}@{guarded.host}:{guarded.port}/postgres"
    done = cli("backup", "create", "--format", "json", "--database-url", url)
    assert (done.code, done.error["type"]) == (5, "PermissionMissing")
    assert "hidden" in done.error["message"]
    assert "Traceback" not in done.err
    assert SECRET not in done.out + done.err
