"""Runs the contestants in rounds, each from the same still state, and checks what they did.

No database is dropped while somebody is still to be measured: on ext4 without a journal, files that are made within
minutes after others were deleted take three times as long, and whoever comes next would pay for it.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from msr_async.testing.embedded import EmbeddedPostgres

from ..data import psql
from ..measuring import CommandFailed, Cost, measure
from . import files
from .contestants import Contestant
from .proxy import DelayingProxy


@dataclass(frozen=True, kw_only=True)
class Case:
    """One table: how many migrations, whether they are applied already, and how far away the server is."""

    name: str
    count: int
    applied: bool = False
    round_trip: float = 0.0
    """Seconds; 0 is the server on this machine without a proxy."""
    plain: bool = False
    """Tables of one column, without a key."""


@dataclass(frozen=True, kw_only=True)
class Runs:
    """One contestant's costs in one case, a round each."""

    contestant: Contestant
    costs: list[Cost] = field(default_factory=list)
    round_trips: list[int] = field(default_factory=list)
    """After the connections' hello; counted where there is a proxy."""
    connections: list[int] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Arena:
    """A server, and a folder for the migrations."""

    server: EmbeddedPostgres
    folder: Path
    _numbers: Iterator[int] = field(default_factory=itertools.count)
    """Of the databases: they all stay until the server goes."""

    def run(
        self, case: Case, contestants: Sequence[Contestant], rounds: int, tell: Callable[[str], None]
    ) -> list[Runs]:
        """Every contestant `rounds` times; every second round in reverse order, so that nobody is always the first.

        Raises:
            CommandFailed: when one of them failed, or did something else than it should.
        """
        found = {item.name: Runs(contestant=item) for item in contestants}
        applied: dict[str, str] = {}
        for contestant in contestants if case.applied else ():
            applied[contestant.name] = self._make()
            self._migrate(contestant, case, self.server.dsn(applied[contestant.name]))
        with self._reached(case) as proxy:
            for number in range(rounds):
                for contestant in contestants if number % 2 == 0 else reversed(contestants):
                    database = applied.get(contestant.name) or self._make()
                    cost = self._round(case, contestant, database, proxy, found[contestant.name])
                    tell(f"{case.name}, round {number + 1}: {contestant.name}: {cost.wall:.3f} s")
        return list(found.values())

    def measure(self, command: Sequence[str]) -> Cost:
        """What any other program costs here."""
        self._settle()
        return self._measured(command)

    def compile(self, contestants: Sequence[Contestant]) -> None:
        """An installed package has its modules compiled: a first run of everybody, not counted."""
        for contestant in contestants:
            self._migrate(contestant, Case(name="", count=1), self.server.dsn(self._make()))

    @contextmanager
    def _reached(self, case: Case) -> Iterator[DelayingProxy | None]:
        if not case.round_trip:
            yield None
            return
        with DelayingProxy(self.server.port, delay=case.round_trip / 2).running() as proxy:
            yield proxy

    def _round(
        self, case: Case, contestant: Contestant, database: str, proxy: DelayingProxy | None, runs: Runs
    ) -> Cost:
        dsn = self.server.dsn(database)
        if proxy:
            dsn = dsn.replace(f":{self.server.port}/", f":{proxy.port}/")
            proxy.count_anew()
        self._settle()
        cost = self._migrate(contestant, case, dsn)
        runs.costs.append(cost)
        if proxy:
            runs.round_trips.append(proxy.traffic.round_trips)
            runs.connections.append(proxy.traffic.connections)
        self._check(contestant, case.count, database)
        return cost

    def _migrate(self, contestant: Contestant, case: Case, dsn: str) -> Cost:
        folder = self.folder / f"{contestant.layout}-{case.count}{'-plain' if case.plain else ''}"
        if not folder.exists():
            files.write(folder, contestant.layout, case.count, files.plain if case.plain else files.keyed)
        return self._measured(contestant.command(dsn, folder))

    def _check(self, contestant: Contestant, count: int, database: str) -> None:
        tables = psql(self.server, database, "SELECT count(*) FROM pg_tables WHERE tablename ~ '^t_[0-9]+$'")
        applied = psql(self.server, database, contestant.applied)
        if (tables, applied) != (str(count), str(count)):
            raise CommandFailed(
                f"{contestant.name} made {tables} tables and recorded {applied}, where {count} were due"
            )

    def _make(self) -> str:
        database = f"contest_{next(self._numbers)}"
        self.server.run("createdb", "-T", "template0", database)
        return database

    def _settle(self) -> None:
        """Nothing of the run before is left to be written."""
        psql(self.server, "postgres", "CHECKPOINT")
        os.sync()

    def _measured(self, command: Sequence[str]) -> Cost:
        postmaster = psql(self.server, "postgres", "SELECT split_part(pg_read_file('postmaster.pid'), E'\\n', 1)")
        return measure(command, server=int(postmaster), bytecode=self.folder / "bytecode")


def seconds_inside(cost: Cost) -> float | None:
    """What the contestant itself says it took, Python's start and its imports left out."""
    if not cost.output.startswith("{"):
        return None
    told = json.loads(cost.output).get("inside")
    return None if told is None else float(told)


def planning_command(action: str, dsn: str, folder: Path) -> list[str]:
    return [sys.executable, "-m", "benchmarks.migrations.planning", action, dsn, str(folder)]
