"""Who takes part: what each runs to back a project up, and to restore it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Literal, TypeAlias

from msr_async.models import VERSION

Action: TypeAlias = Literal["backup", "restore"]
ACTIONS: tuple[Action, ...] = ("backup", "restore")

OURS = "msr_async"
PLAIN = "plain Python"


@dataclass(frozen=True, kw_only=True)
class Where:
    """A project of a server, and the file that is written or read."""

    address: str
    project: str
    file: Path


@dataclass(frozen=True, kw_only=True)
class Contestant:
    """One line of a table."""

    name: str
    program: str
    command: Callable[[Action, Where], Sequence[str]]
    file: str
    deadline: float = 0.0
    """Seconds; 0 is without end."""
    may_fail: bool = False
    """Somebody else's tool: that it failed or lost documents is told in the table, and the run goes on."""


def ours(concurrency: int | None = None) -> Contestant:
    more = [] if concurrency is None else [str(concurrency)]
    return Contestant(
        name=OURS if concurrency is None else f"{OURS}, {concurrency} stream{'s' if concurrency > 1 else ''}",
        program=f"msr_async {VERSION}",
        command=lambda action, where: [*_program("with_ours", action, where), *more],
        file="ours.msrbak",
    )


def plain() -> Contestant:
    return Contestant(
        name=PLAIN,
        program=f"google-cloud-firestore {version('google-cloud-firestore')}",
        command=lambda action, where: _program("with_plain", action, where),
        file="plain.json",
    )


def _program(module: str, action: Action, where: Where) -> list[str]:
    program = [sys.executable, "-m", f"benchmarks.firestore.{module}"]
    return [*program, action, where.address, where.project, str(where.file)]
