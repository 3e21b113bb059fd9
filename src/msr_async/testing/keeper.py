"""The small process that stands between a Python program and the server it started: PostgreSQL, or an emulator.

It runs as `python keeper.py FOLDER USER COMMAND...` and reads its standard input. When that ends, because the program
closed it or died in whatever way, it stops the server and removes FOLDER. A death signal alone would not do: the kernel
ties it to the *thread* that started the child, and worker threads come and go. When the server ends first, the keeper
ends with `SERVER_GONE` and leaves FOLDER, so that the log can be read.
"""

from __future__ import annotations

import ctypes
import os
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

SERVER_GONE = 3
FAST_SHUTDOWN_DEADLINE = 5.0
"""Seconds for a shutdown with a checkpoint. After it come SIGQUIT (no checkpoint) and, as long again, SIGKILL."""

_DEAF_TO = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_PR_SET_PDEATHSIG = 1


def keep(folder: Path, user: int | None, command: list[str]) -> int:
    """Run the server until standard input ends, then stop it and remove `folder`."""
    alive, held = os.pipe()
    server = _launch(folder, user, command, held)
    os.close(held)
    # Every process of the server inherits `held`: `alive` ends when the last of them is gone.
    ready, _, _ = select.select([0, alive], [], [])
    if 0 not in ready:
        server.wait()
        return SERVER_GONE
    for how in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
        with suppress(ProcessLookupError):
            server.send_signal(how)
        if select.select([alive], [], [], FAST_SHUTDOWN_DEADLINE)[0]:
            break
    server.wait()
    shutil.rmtree(folder, ignore_errors=True)
    return 0


def _launch(folder: Path, user: int | None, command: list[str], held: int) -> subprocess.Popen[bytes]:
    prepare = _prepare(os.getpid())
    with (folder / "log").open("ab") as log:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=folder,
            pass_fds=[held],
            user=user,
            group=None if user is None else _group_of(user),
            extra_groups=None if user is None else [],
            preexec_fn=prepare,  # this process has one thread; and it runs after the change of user, which clears it
        )


def _group_of(user: int) -> int:
    import pwd

    return pwd.getpwuid(user).pw_gid


def _prepare(parent: int) -> Callable[[], None]:
    """What a new process does first: it listens to signals again and, on Linux, ends when `parent` does, however."""
    prctl = ctypes.CDLL(None, use_errno=True).prctl if sys.platform.startswith("linux") else None

    def prepare() -> None:
        for number in _DEAF_TO:
            signal.signal(number, signal.SIG_DFL)  # what a process ignores, its children ignore: Java stays deaf
        if prctl is None:
            return
        prctl(_PR_SET_PDEATHSIG, int(signal.SIGQUIT))
        if os.getppid() != parent:  # it died before the question
            os._exit(1)

    return prepare


if __name__ == "__main__":
    for number in _DEAF_TO:
        signal.signal(number, signal.SIG_IGN)  # the end of standard input is the one way to stop
    who = int(sys.argv[2]) if sys.argv[2] else None
    sys.exit(keep(Path(sys.argv[1]), who, sys.argv[3:]))
