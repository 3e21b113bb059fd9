"""Runs the contestants in rounds on one emulator, and checks what they restored."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..measuring import CommandFailed, Cost, measure
from . import database
from .contestants import ACTIONS, Action, Contestant, Where
from .database import State

_TARGET = "bench-target"


@dataclass(frozen=True, kw_only=True)
class Runs:
    """One contestant's costs at one action, a round each."""

    action: Action
    contestant: Contestant
    costs: list[Cost] = field(default_factory=list)
    files: list[int] = field(default_factory=list)
    """Bytes of what was written or read."""
    restored: list[int] = field(default_factory=list)
    """Documents that were there after a restore."""
    exact: list[bool] = field(default_factory=list)
    """Whether they were all of the documents, with the content they had."""
    failures: list[str] = field(default_factory=list)
    """Of a contestant that may fail."""


@dataclass(kw_only=True)
class Arena:
    """An emulator that runs, and a folder for the contestants' files."""

    address: str
    server: int
    """The emulator's process."""
    folder: Path
    tell: Callable[[str], None]
    alone: bool = False
    """Nobody else uses the emulator, so that it can be reset after each restore. Otherwise it fills with what was."""
    _projects: int = 0

    def warm_up(self, count: int, contestants: Sequence[Contestant]) -> None:
        """Everybody once with `count` documents, not counted: a Java machine compiles what it runs often.

        Python has its modules compiled after it, as those of an installed package are.
        """
        self.tell(f"warming up with {count:,} documents")
        self.run(count, contestants, 1)

    def run(self, count: int, contestants: Sequence[Contestant], rounds: int) -> list[Runs]:
        """Everybody `rounds` times, at first all backups and then all restores; every second round in reverse order.

        Raises:
            CommandFailed: when one that must not did fail, or restored something else than there was.
        """
        project = f"bench-source-{count}"
        self._forget(project)  # what a case that failed has left
        database.fill(self.address, project, count)
        expected = database.state_of(self.address, project)
        if expected.documents != count:
            raise CommandFailed(f"the emulator holds {expected.documents} documents of {count}")
        found = [Runs(action=action, contestant=item) for action in ACTIONS for item in contestants]
        for action in ACTIONS:
            for number in range(rounds):
                ordered = [runs for runs in found if runs.action == action]
                for runs in ordered if number % 2 == 0 else reversed(ordered):
                    self._round(runs, project, expected)
                    self.tell(f"{count:,} documents, round {number + 1}, {action}: {_told(runs)}")
        self._forget(project)
        return found

    def _round(self, runs: Runs, project: str, expected: State) -> None:
        file = self.folder / runs.contestant.file
        try:
            if runs.action == "backup":
                file.unlink(missing_ok=True)
                cost = self._measured(runs.contestant, "backup", self._where(project, file))
            else:
                cost = self._restored(runs, file, expected)
            runs.costs.append(cost)
            runs.files.append(file.stat().st_size)
        except (CommandFailed, OSError) as error:
            if not runs.contestant.may_fail:
                raise
            runs.failures.append(str(error))

    def _restored(self, runs: Runs, file: Path, expected: State) -> Cost:
        self._projects += 1
        target = f"{_TARGET}-{self._projects}"
        if not file.exists():
            raise CommandFailed(f"{runs.contestant.name} has no backup to restore")
        try:
            cost = self._measured(runs.contestant, "restore", self._where(target, file))
            state = database.state_of(self.address, target)
        finally:
            self._forget(target)
        if state != expected and not runs.contestant.may_fail:
            raise CommandFailed(
                f"{runs.contestant.name} restored {state.documents} documents, where there were {expected.documents}"
                + (", with another content" if state.documents == expected.documents else "")
            )
        runs.restored.append(state.documents)
        runs.exact.append(state == expected)
        return cost

    def _forget(self, project: str) -> None:
        if self.alone:
            database.reset(self.address)
        else:
            database.empty(self.address, project)

    def _where(self, project: str, file: Path) -> Where:
        return Where(address=self.address, project=project, file=file)

    def _measured(self, contestant: Contestant, action: Action, where: Where) -> Cost:
        os.sync()  # nothing of the run before is left to be written
        return measure(
            contestant.command(action, where),
            server=self.server,
            bytecode=self.folder / "bytecode",
            environ={"FIRESTORE_EMULATOR_HOST": self.address, "GOOGLE_CLOUD_PROJECT": where.project},
            deadline=contestant.deadline,
        )


def _told(runs: Runs) -> str:
    done = f"{runs.costs[-1].wall:.2f} s" if runs.costs and not runs.failures else runs.failures[-1].splitlines()[0]
    return f"{runs.contestant.name}: {done}"
