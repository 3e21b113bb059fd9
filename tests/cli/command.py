"""The command line as a user has it: a process with real arguments, its output and its exit code."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import msr_async

SOURCE = Path(msr_async.__file__).parents[1]
DEADLINE = 60.0


@dataclass(frozen=True, kw_only=True)
class Outcome:
    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """Standard output as one JSON document; fails when there is anything beside it."""
        return json.loads(self.out)

    @property
    def error(self) -> Any:
        return self.document["error"]


@dataclass(kw_only=True)
class Command:
    folder: Path
    _running: list[Running] = field(default_factory=list)

    def __call__(self, *arguments: object, env: Mapping[str, str] | None = None) -> Outcome:
        """Run to the end."""
        return self.start(*arguments, env=env).end()

    def start(self, *arguments: object, env: Mapping[str, str] | None = None) -> Running:
        return self._start([sys.executable, "-m", "msr_async", *map(str, arguments)], env)

    def script(self, text: str, *arguments: object) -> Outcome:
        """Run `text`, which prepares something, and then the command line."""
        program = f"import sys\n{text}\nfrom msr_async.__main__ import main\nsys.exit(main())"
        return self._start([sys.executable, "-c", program, *map(str, arguments)], None).end()

    def _start(self, command: list[str], env: Mapping[str, str] | None) -> Running:
        running = Running(command, self.folder, environment() | dict(env or {}))
        self._running.append(running)
        return running

    def end_all(self) -> None:
        for running in self._running:
            running.kill()

    def write(self, name: str, text: str) -> Path:
        path = self.folder / "migrations" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return path


class Running:
    """A command under way. Its output is read line by line, so that a test can wait for what it says."""

    def __init__(self, command: list[str], folder: Path, env: Mapping[str, str]) -> None:
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            command, cwd=folder, env=env, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True
        )
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._out: list[str] = []
        self._err: list[str] = []
        assert self._process.stdout
        assert self._process.stderr
        self._threads = [
            threading.Thread(target=self._read, args=(self._process.stdout, self._out)),
            threading.Thread(target=self._read, args=(self._process.stderr, self._err)),
        ]
        for thread in self._threads:
            thread.start()

    def wait_for(self, words: str) -> str:
        """Wait until a line of either output has these words in it."""
        deadline = time.monotonic() + DEADLINE
        while True:
            try:
                line = self._lines.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"never said {words!r}, but: {''.join(self._out + self._err)}") from None
            if words in line:
                return line

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def end(self) -> Outcome:
        code = self._process.wait(timeout=DEADLINE)
        for thread in self._threads:
            thread.join()
        return Outcome(code=code, out="".join(self._out), err="".join(self._err))

    def kill(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        for thread in self._threads:
            thread.join()

    def _read(self, stream: IO[str], lines: list[str]) -> None:
        with stream:
            for line in stream:
                lines.append(line)
                self._lines.put(line)


def environment() -> dict[str, str]:
    """Our environment without settings of the library, of the databases and of a pipeline."""
    skipped = ("MSR_", "FIRESTORE_", "GOOGLE_", "PG", "GITHUB_", "PYTHON", "FORCE_COLOR", "NO_COLOR", "COLUMNS")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(skipped)}
    kept.pop("DATABASE_URL", None)
    wanted = {name: value for name, value in os.environ.items() if name.startswith("MSR_POSTGRES_BIN")}
    ours = {"PYTHONPATH": str(SOURCE), "PYTHONIOENCODING": "utf-8", "MSR_SQUAWK": "off"}
    return kept | wanted | ours
