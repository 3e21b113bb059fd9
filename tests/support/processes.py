"""Real `msr-async migrate` processes, several at once: bounded waits, and what they said in every failure's message."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.cli.command import environment

DEADLINE = 60.0
"""Seconds that anything here may take before the test fails."""
_PAUSE = 0.005


class Runner:
    """One process under way. It writes into a file, so nothing has to be read while it runs."""

    def __init__(self, command: Sequence[str], folder: Path, said: Path) -> None:
        self._said = said
        with said.open("wb") as output:
            self._process = subprocess.Popen(
                command, cwd=folder, env=environment(), stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )

    @property
    def said(self) -> str:
        """Both of its outputs up to now."""
        return self._said.read_text(errors="replace")

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def wait_for(self, *words: str) -> None:
        """Wait until it has said one of these; fails when it ends, or says nothing of the kind in time."""
        deadline = time.monotonic() + DEADLINE
        while not self._has_said(words):
            over = not self.running and not self._has_said(words)
            assert not over, f"ended with {self._process.returncode} without {words!r}:\n{self.said}"
            assert time.monotonic() < deadline, f"never said {words!r}:\n{self.said}"
            time.sleep(_PAUSE)

    def _has_said(self, words: Sequence[str]) -> bool:
        said = self.said
        return any(one in said for one in words)

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self._process.kill()
        self._process.wait(DEADLINE)

    def end(self) -> int:
        """Wait for its end; the exit code, negative for a signal."""
        try:
            return self._process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {DEADLINE:.0f} s:\n{self.said}") from None


@dataclass(kw_only=True)
class Runners:
    """Starts processes in a folder of the test's, on the migrations that the test has written there."""

    folder: Path
    _started: list[Runner] = field(default_factory=list)

    def write(self, name: str, text: str) -> None:
        path = self.folder / "migrations" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)

    def migrate(self, url: str, *flags: str) -> Runner:
        """`msr-async migrate` without a backup: what puts a run right here is the next run."""
        own = ["--migrations", "migrations", "--backups", "backups", "--strategy", "none", "--mode", "manual"]
        command = [sys.executable, "-m", "msr_async", "migrate", "--database-url", url, *own, *flags]
        runner = Runner(command, self.folder, self.folder / f"runner-{len(self._started):03}.log")
        self._started.append(runner)
        return runner

    def complete(self, url: str, *flags: str) -> Runner:
        """Run to the end, which has to be a good one."""
        runner = self.migrate(url, *flags)
        code = runner.end()
        assert code == 0, f"ended with {code}:\n{runner.said}"
        return runner

    def end_all(self) -> None:
        for runner in self._started:
            if runner.running:
                runner.kill()
