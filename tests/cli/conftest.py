"""Runs the real command line in processes of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cli.command import Command
from tests.support.servers import Database


@pytest.fixture
def cli(tmp_path: Path) -> Iterator[Command]:
    """The command line, run in the test's own folder without any setting from outside."""
    command = Command(folder=tmp_path)
    try:
        yield command
    finally:
        command.end_all()


@pytest.fixture
def shop(make_database: Callable[[], Database]) -> Database:
    """A database with two small tables."""
    database = make_database()
    database.sql(
        """
        CREATE TABLE customers (id int PRIMARY KEY, name text NOT NULL);
        INSERT INTO customers SELECT n, 'customer ' || n FROM generate_series(1, 500) n;
        CREATE TABLE orders (id int PRIMARY KEY, note text);
        INSERT INTO orders SELECT n, repeat(md5(n::text), 3) FROM generate_series(1, 2000) n;
        """
    )
    return database
