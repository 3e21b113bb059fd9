"""Runs the contestants in rounds, each from the same still state, and checks what they restored."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from msr_async.testing.embedded import EmbeddedPostgres

from .data import psql, state_of
from .measuring import CommandFailed, Cost, measure
from .ways import Way

_SOURCE, _TARGET = "source", "target"


@dataclass(frozen=True, kw_only=True)
class Runs:
    """One contestant's costs, a round each."""

    way: Way
    costs: list[Cost] = field(default_factory=list)
    files: list[int] = field(default_factory=list)
    """Bytes of what was written or read."""


@dataclass(frozen=True, kw_only=True)
class Arena:
    """A server with the database `source`, and a folder for the contestants' files."""

    server: EmbeddedPostgres
    folder: Path

    def all_rounds(
        self, chosen: Sequence[Way], everyone: Sequence[Way], rounds: int, tell: Callable[[str], None]
    ) -> list[Runs]:
        """Every chosen way `rounds` times; every second round in reverse order, so that nobody is always the first.

        Raises:
            CommandFailed: when one of them failed, or restored something else than there was.
        """
        runs = {way.name: Runs(way=way) for way in chosen}
        backups = [way for way in chosen if way.action == "backup"]
        restores = [way for way in chosen if way.action == "restore"]
        # An installed package has its modules compiled; ours may run from a checkout.
        self._measure([sys.executable, "-c", "import benchmarks.ours, benchmarks.guide"])
        self._rounds(backups, runs, rounds, tell)
        for file in sorted({way.file for way in restores if not (self.folder / way.file).exists()}):
            tell(f"making {file} for the restores")
            (maker,) = (way for way in everyone if way.action == "backup" and way.file == file)
            self._backup(maker)
        expected = state_of(self.server, _SOURCE)
        self._rounds(restores, runs, rounds, tell, expected)
        return list(runs.values())

    def _rounds(
        self, ways: Sequence[Way], runs: dict[str, Runs], rounds: int, tell: Callable[[str], None], expected: str = ""
    ) -> None:
        for number in range(rounds):
            for way in ways if number % 2 == 0 else reversed(ways):
                cost = self._backup(way) if way.action == "backup" else self._restore(way, expected)
                runs[way.name].costs.append(cost)
                runs[way.name].files.append(_bytes_of(self.folder / way.file))
                tell(f"round {number + 1}, {way.action}: {way.name}: {cost.wall:.2f} s")

    def _backup(self, way: Way) -> Cost:
        file = self.folder / way.file
        _remove(file)
        self._settle()
        return self._measure(way.command(self.server.dsn(_SOURCE), file))

    def _restore(self, way: Way, expected: str) -> Cost:
        self.server.run("createdb", "-T", "template0", _TARGET)
        try:
            if way.needs_schema:
                schema = self.server.run("pg_dump", "--schema-only", self.server.dsn(_SOURCE))
                psql(self.server, _TARGET, "\n".join(line for line in schema.splitlines() if not line.startswith("\\")))
            self._settle()
            cost = self._measure(way.command(self.server.dsn(_TARGET), self.folder / way.file))
            found = state_of(self.server, _TARGET)
            if found != expected:
                raise CommandFailed(f"{way.name} restored\n{found}\nwhere there was\n{expected}")
            return cost
        finally:
            self.server.run("dropdb", "--force", _TARGET)

    def _settle(self) -> None:
        """Nothing of the run before is left to be written."""
        psql(self.server, _SOURCE, "CHECKPOINT")
        os.sync()

    def _measure(self, command: Sequence[str]) -> Cost:
        postmaster = psql(self.server, _SOURCE, "SELECT split_part(pg_read_file('postmaster.pid'), E'\\n', 1)")
        return measure(command, server=int(postmaster), bytecode=self.folder / "bytecode")


def _bytes_of(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    return sum(item.stat().st_size for item in path.rglob("*") if item.is_file())


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
