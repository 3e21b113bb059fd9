"""What one command costs: wall time, CPU of its processes and of the server, peak memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msr_async

from . import starter

_SETTLE = 0.2
"""Seconds for the server's processes of a client that has just gone to end, and to be counted."""


class CommandFailed(Exception):
    """A contestant did not do its work; the message holds the end of what it said."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a command took. Times are seconds, memory is bytes."""

    wall: float
    cpu: float
    """User and system time of the command and of all its child processes."""
    peak: int
    """The largest resident size that one of its processes had at any time (not their sum)."""
    server_cpu: float | None
    """What all processes of the server used meanwhile; None where there is no /proc."""
    output: str


def measure(
    command: Sequence[str],
    *,
    server: int,
    bytecode: Path,
    environ: Mapping[str, str] | None = None,
    deadline: float = 0.0,
) -> Cost:
    """Run a command to its end.

    Args:
        server: the process whose CPU is counted too, with that of its children: a postmaster, a Java machine.
        bytecode: where Python programs keep compiled modules between runs, as an installed package has them.
        environ: what the command finds in its environment, beside the little that it always does.
        deadline: seconds after which the command is killed; 0 waits without end.

    Raises:
        CommandFailed: when it ended with anything but 0.
    """
    server_before = server_cpu(server)
    reading, writing = os.pipe()
    with open(reading) as answer:
        try:
            done = subprocess.run(
                [sys.executable, "-I", "-S", starter.__file__, str(writing), str(deadline), *command],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                env=_environment(bytecode) | dict(environ or {}),
                pass_fds=[writing],
            )
        finally:
            os.close(writing)
        report = json.loads(answer.read() or "{}")
    if report.get("late"):
        raise CommandFailed(f"{' '.join(command[:4])} ... was not done after {deadline:g} s")
    if done.returncode or report.get("status"):
        raise CommandFailed(f"{' '.join(command[:4])} ... ended with {report.get('status')}:\n{done.stderr[-2000:]}")
    time.sleep(_SETTLE)
    server_after = server_cpu(server)
    return Cost(
        wall=report["wall"],
        cpu=report["user"] + report["system"],
        peak=report["peak"],
        server_cpu=None if server_before is None or server_after is None else server_after - server_before,
        output=done.stdout,
    )


def server_cpu(server: int) -> float | None:
    """CPU seconds of a server up to now: its living processes, and those that have ended."""
    ticks = 0
    try:
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and (times := _times(entry)) and server in (int(entry.name), times[0]):
                ticks += sum(times[1:])
    except FileNotFoundError:  # macOS
        return None
    return ticks / os.sysconf("SC_CLK_TCK")


def _times(process: Path) -> tuple[int, ...] | None:
    """The parent's id; user, system, and both of the children that were waited for, in clock ticks."""
    try:
        fields = (process / "stat").read_text().rpartition(")")[2].split()
    except OSError:  # it has ended
        return None
    return int(fields[1]), *(int(field) for field in fields[11:15])


def _environment(bytecode: Path) -> dict[str, str]:
    """Ours without what drivers and Python read, so that a command does what it is told; no linter is started."""
    read = ("PG", "PYTHON", "FIRESTORE_", "GOOGLE_", "GCLOUD_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(read)}
    places = [Path(__file__).parents[1], Path(msr_async.__file__).parents[1]]
    python = {"PYTHONPATH": os.pathsep.join(map(str, places)), "PYTHONPYCACHEPREFIX": str(bytecode)}
    return kept | python | {"LC_ALL": "C", "MSR_SQUAWK": "off"}
