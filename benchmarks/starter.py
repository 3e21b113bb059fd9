"""Runs one command and reports what it cost: `python -I -S starter.py DESCRIPTOR DEADLINE COMMAND...`.

A small process of its own, because on Linux a program's peak memory begins with that of the process that started it:
started from here it reads 10 MiB too much at most, started from the benchmark itself it would read 60.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time


def start(descriptor: int, deadline: float, command: list[str]) -> int:
    os.set_inheritable(descriptor, False)
    begun = time.perf_counter()
    child = os.fork()
    if child == 0:
        try:
            os.execvp(command[0], command)
        except OSError as error:
            print(f"{command[0]}: {error.strerror}", file=sys.stderr, flush=True)
        finally:
            os._exit(127)
    late = _kill_after(deadline, child)
    _, status, usage = os.wait4(child, 0)
    signal.setitimer(signal.ITIMER_REAL, 0)
    wall = time.perf_counter() - begun
    report = {
        "wall": wall,
        "user": usage.ru_utime,
        "system": usage.ru_stime,
        "peak": usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024),
        "status": os.waitstatus_to_exitcode(status),
        "late": bool(late),
    }
    os.write(descriptor, json.dumps(report).encode())
    return 0


def _kill_after(seconds: float, child: int) -> list[bool]:
    """Kill the command when its time is up; the list is empty until then. 0 seconds are for ever."""
    late: list[bool] = []

    def kill(*_: object) -> None:
        late.append(True)
        os.kill(child, signal.SIGKILL)

    signal.signal(signal.SIGALRM, kill)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    return late


if __name__ == "__main__":
    sys.exit(start(int(sys.argv[1]), float(sys.argv[2]), sys.argv[3:]))
