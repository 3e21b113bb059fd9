"""The demo as a stranger runs it."""

from __future__ import annotations

import signal
import zipfile
from pathlib import Path

import pytest

from tests.cli.command import Command
from tests.support.servers import Servers


@pytest.fixture(autouse=True)
def _server_programs(servers: Servers) -> None:
    """The demo starts a PostgreSQL 18 of its own; without one on the machine there is nothing to test."""
    servers.get(18)


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.startswith("msr-")]


def test_the_demo_ends_well_and_proves_it(cli: Command) -> None:
    temporary = cli.folder / "tmp"
    temporary.mkdir(mode=0o755)
    done = cli("demo", "--rows", "4000", "--keep", "kept", env={"TMPDIR": str(temporary)})
    assert (done.code, done.err) == (0, "")
    assert done.out.count("Byte for byte the same") == 2
    assert "MigrationFailed" in done.out
    assert "✗ " not in done.out
    assert "\x1b" not in done.out
    assert leftovers(temporary) == []
    assert sorted(path.name for path in (cli.folder / "kept" / "migrations").iterdir()) == [
        "V202601010900_loyalty_points.up.sql",
        "V202601020900_round_prices.up.sql",
        "V202601030900_tidy_up.py",
    ]
    files = sorted((cli.folder / "kept" / "backups").iterdir())
    assert all(zipfile.ZipFile(file).namelist()[0] == "README.txt" for file in files)
    assert len(files) == 2


def test_ctrl_c_in_the_demo_leaves_nothing(cli: Command) -> None:
    temporary = cli.folder / "tmp"
    temporary.mkdir(mode=0o755)
    run = cli.start("demo", "--rows", "100000", env={"TMPDIR": str(temporary), "PYTHONUNBUFFERED": "1"})
    run.wait_for("Back it up")
    run.send(signal.SIGINT)
    done = run.end()
    assert done.code == 130
    assert "Traceback" not in done.err
    assert leftovers(temporary) == []
