"""How much faster many streams are than one, where each of them is slow, as a real database's are."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msr_async

from ..measuring import CommandFailed, measure
from .arena import Runs
from .contestants import Contestant, Where

_PROJECT = "bench-throttled"
_STOP_DEADLINE = 30.0


def run(
    contestants: Sequence[Contestant], folder: Path, count: int, rate: int, tell: Callable[[str], None]
) -> list[Runs]:
    """Everybody's backup of `count` documents from a server that gives `rate` documents a second a stream.

    Raises:
        CommandFailed: when the server did not start, or a backup failed.
    """
    found = []
    tell(f"starting a server with {count:,} documents, {rate:,} a second a stream")
    with _server(count, rate) as (address, process):
        # An installed package has its modules compiled.
        modules = "benchmarks.firestore.with_ours, msr_async._engine.dumping, msr_async._engine.conducting"
        measure([sys.executable, "-c", f"import {modules}"], server=process, bytecode=folder / "bytecode")
        for contestant in contestants:
            where = Where(address=address, project=_PROJECT, file=folder / f"throttled-{contestant.file}")
            where.file.unlink(missing_ok=True)
            cost = measure(contestant.command("backup", where), server=process, bytecode=folder / "bytecode")
            tell(f"{contestant.name}: {cost.wall:.2f} s")
            size = where.file.stat().st_size
            found.append(Runs(action="backup", contestant=contestant, costs=[cost], files=[size]))
    return found


@contextmanager
def _server(count: int, rate: int) -> Iterator[tuple[str, int]]:
    """Its address and its process."""
    root = Path(__file__).parents[2]
    places = os.pathsep.join([str(root), str(Path(msr_async.__file__).parents[1])])
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.firestore.serving", _PROJECT, str(count), str(rate)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": places},
    )
    assert process.stdin
    assert process.stdout
    try:
        address = process.stdout.readline().strip()
        if not address:
            raise CommandFailed(f"the throttled server ended with {process.wait()}")
        yield address, process.pid
    finally:
        process.stdin.close()
        try:
            process.wait(_STOP_DEADLINE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()
