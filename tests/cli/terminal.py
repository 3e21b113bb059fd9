"""The command line on a terminal of its own, as a person has it."""

from __future__ import annotations

import os
import pty
import select
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.cli.command import DEADLINE, environment


class Terminal:
    """A command under way; what it wrote is in `said`."""

    def __init__(self, pid: int, descriptor: int) -> None:
        self._pid, self._descriptor = pid, descriptor
        self._ended = False
        self.said = ""

    def wait_for(self, words: str) -> None:
        deadline = time.monotonic() + DEADLINE
        while words not in self.said:
            assert time.monotonic() < deadline, self.said
            assert self._read(), self.said

    def type(self, keys: str) -> None:
        os.write(self._descriptor, keys.encode())

    def end(self) -> int:
        """Its exit code."""
        while self._read():
            pass
        self._ended = True
        return os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])

    def close(self) -> None:
        if not self._ended:
            os.kill(self._pid, 9)
            os.waitpid(self._pid, 0)
        os.close(self._descriptor)

    def _read(self) -> bool:
        ready, _, _ = select.select([self._descriptor], [], [], DEADLINE)
        assert ready, self.said
        try:
            data = os.read(self._descriptor, 65536)
        except OSError:  # how Linux says that the other side is closed
            return False
        self.said += data.decode(errors="replace")
        return bool(data)


@contextmanager
def on_a_terminal(folder: Path, *arguments: object) -> Iterator[Terminal]:
    """Run the command line in `folder`."""
    command = [sys.executable, "-m", "msr_async", *map(str, arguments)]
    environ = environment() | {"TERM": "xterm", "COLUMNS": "120"}
    pid, descriptor = pty.fork()
    if pid == 0:
        try:
            os.chdir(folder)
            os.execve(command[0], command, environ)
        finally:
            os._exit(127)
    terminal = Terminal(pid, descriptor)
    try:
        yield terminal
    finally:
        terminal.close()
