"""The service of `examples/` runs as it is, on a real PostgreSQL."""

from __future__ import annotations

import signal
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.cli.command import Running, environment
from tests.fastapi.service import address, get
from tests.support.servers import Database, only_newest

EXAMPLES = Path(__file__).parents[2] / "examples"
NOTES = "CREATE TABLE notes (id int GENERATED ALWAYS AS IDENTITY, words text NOT NULL)"


@contextmanager
def running(folder: Path, **settings: str) -> Iterator[Running]:
    command = [sys.executable, "-m", "uvicorn", "--app-dir", str(EXAMPLES), "fastapi_service:app", "--port", "0"]
    server = Running(command, folder, environment() | settings)
    try:
        yield server
    finally:
        server.kill()


@only_newest
def test_the_service_migrates_serves_and_leaves_no_backup_behind(
    make_database: Callable[[], Database], tmp_path: Path
) -> None:
    database = make_database()
    (tmp_path / "migrations").mkdir()
    (tmp_path / "migrations" / "V202611220900_create_notes.up.sql").write_text(NOTES)
    with running(tmp_path, DATABASE_URL=database.dsn) as server:
        url = address(server)
        assert get(f"{url}/ready")[0] == 200
        with urllib.request.urlopen(f"{url}/notes?words=milk", data=b"", timeout=20) as answer:
            assert answer.status == 201
        assert get(f"{url}/notes") == (200, '["milk"]')
        server.send(signal.SIGTERM)
        assert "Traceback" not in server.end().err
    assert list((tmp_path / "backups" / "start").iterdir()) == []


def test_without_an_address_the_server_ends_with_one_sentence(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        done = server.end()
    assert done.code == 3
    said = "DATABASE_URL is not set. Set it to postgresql://user:password@host/database."
    assert f"msr_async.errors.ConfigError: {said}" in done.err.splitlines()
