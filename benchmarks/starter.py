"""Runs one command and reports what it cost: `python -I -S starter.py DESCRIPTOR COMMAND...`.

A small process of its own, because on Linux a program's peak memory begins with that of the process that started it:
started from here it reads 10 MiB too much at most, started from the benchmark itself it would read 60.
"""

from __future__ import annotations

import json
import os
import sys
import time


def start(descriptor: int, command: list[str]) -> int:
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
    _, status, usage = os.wait4(child, 0)
    wall = time.perf_counter() - begun
    report = {
        "wall": wall,
        "user": usage.ru_utime,
        "system": usage.ru_stime,
        "peak": usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024),
        "status": os.waitstatus_to_exitcode(status),
    }
    os.write(descriptor, json.dumps(report).encode())
    return 0


if __name__ == "__main__":
    sys.exit(start(int(sys.argv[1]), sys.argv[2:]))
