"""A server for as long as a block lasts: behind its keeper, on a free port, waited for, and gone with its folder."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import anyio
import anyio.to_thread

from ..errors import DatabaseError
from . import keeper
from .programs import reachable

HOST = "127.0.0.1"
START_DEADLINE = 60.0
STOP_DEADLINE = 30.0
"""Seconds; a little more than the keeper needs for its three ways of stopping a server."""

_ATTEMPTS = 5


class KeptServer(ABC):
    """It ends with the block, or with this process in whatever way this dies, and its folder with it.

    A subclass says how it is prepared (`start`), and how one sees that it is ready.

    Args:
        title: what it is called at the start of a sentence.
    """

    host = HOST

    def __init__(self, title: str) -> None:
        self._title = title
        self._lock = threading.Lock()
        self._folder: Path | None = None
        self._keeper: subprocess.Popen[bytes] | None = None
        self._port = 0

    @property
    def port(self) -> int:
        if not self._keeper:
            raise self._not_running()
        return self._port

    @abstractmethod
    def start(self) -> None:
        """Start it; takes a while."""

    @abstractmethod
    def _ready(self, folder: Path, port: int) -> bool:
        """Whether it can be used by now."""

    async def __aenter__(self) -> Self:
        try:
            await anyio.to_thread.run_sync(self.start)
        except BaseException:
            # A cancelled start goes on in its thread; `stop` waits for it there.
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        with anyio.move_on_after(STOP_DEADLINE + START_DEADLINE, shield=True):
            await anyio.to_thread.run_sync(self.stop)

    def stop(self) -> None:
        """Stop it and remove its folder; does nothing when it does not run."""
        with self._lock:
            self._stop()

    def _not_running(self) -> DatabaseError:
        return DatabaseError(f"{self._title} is not running.", hint="Use it inside its `async with` block.")

    @contextmanager
    def _starting(self, prefix: str, user: int | None = None) -> Iterator[Path]:
        """Its folder, for one start at a time; when that fails nothing is left."""
        with self._lock:
            if self._keeper:
                raise DatabaseError(f"{self._title} is already running.", hint="Use one object a server.")
            try:
                self._folder = _new_folder(prefix, user)
                yield self._folder
            except BaseException:
                self._stop()
                raise

    def _serve(
        self,
        folder: Path,
        command: Callable[[int], Sequence[str]],
        *,
        hint: str,
        port: int | None = None,
        user: int | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        """Run the command for a free port, or for this one, until it is ready.

        Raises:
            DatabaseError: it did not start, with the end of what it said, and `hint`.
        """
        said = ""
        for _ in range(1 if port else _ATTEMPTS):  # between our look and the server's own, somebody may take the port
            (folder / "log").unlink(missing_ok=True)
            self._port = port or free_port()
            who = "" if user is None else str(user)
            self._keeper = subprocess.Popen(
                # Isolated and without site: nothing of the user's environment runs in it, and it starts in 30 ms.
                [sys.executable, "-I", "-S", keeper.__file__, str(folder), who, *command(self._port)],
                stdin=subprocess.PIPE,
                env=environ,
                start_new_session=True,  # Ctrl-C is for the program, which then stops the server in order
            )
            if self._comes_up(self._keeper, folder):
                return
            said = tail(read(folder / "log"))
            had_its_time = self._keeper.poll() is None
            self._dismiss()
            if had_its_time:
                break
        raise DatabaseError(f"{self._title} did not start. The end of what it said:\n{said}", hint=hint)

    def _comes_up(self, process: subprocess.Popen[bytes], folder: Path) -> bool:
        deadline = time.monotonic() + START_DEADLINE
        while time.monotonic() < deadline:
            if self._ready(folder, self._port):
                return True
            if process.poll() is not None:
                return False
            time.sleep(0.02)
        return False

    def _dismiss(self) -> None:
        if self._keeper and self._keeper.stdin:
            self._keeper.stdin.close()
            try:
                self._keeper.wait(STOP_DEADLINE)
            except subprocess.TimeoutExpired:
                self._keeper.kill()  # its server dies with it
                self._keeper.wait()
        self._keeper = None

    def _stop(self) -> None:
        self._dismiss()
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)
        self._folder = None


def server_user() -> int | None:
    """The user of a server that refuses to run as root, where we are root."""
    return pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else None


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def read(path: Path) -> str:
    """What is in a file of the server's, or nothing where there is none yet."""
    try:
        return path.read_text(errors="replace")
    except FileNotFoundError:
        return ""


def tail(text: str, lines: int = 12) -> str:
    return "\n".join(text.strip().splitlines()[-lines:])


def _new_folder(prefix: str, user: int | None) -> Path:
    places = [Path(tempfile.gettempdir()), Path("/tmp"), Path("/var/tmp")]
    place = places[0] if user is None else next((item for item in places if reachable(item)), places[0])
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=place))
    if user is not None:
        os.chown(folder, user, -1)
    return folder
