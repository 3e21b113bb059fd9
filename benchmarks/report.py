"""What came out: medians, ratios and targets, as a table and as JSON."""

from __future__ import annotations

import os
import platform
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from .rounds import Runs
from .ways import OURS, PG_DUMP, PG_DUMP_ZSTD, PG_RESTORE

_MIB = 2**20
_HEADINGS = ("", "wall s", "ratio", "CPU s", "server CPU s", "peak MiB", "file MiB")


@dataclass(frozen=True, kw_only=True)
class Line:
    """One contestant's medians. `ratio` is its wall time against its baseline's of the same run."""

    action: str
    name: str
    program: str
    baseline: str
    ratio: float | None
    wall: float
    walls: tuple[float, ...]
    cpu: float
    server_cpu: float | None
    peak: int
    file: int
    output: str

    def cells(self) -> tuple[str, ...]:
        ratio = "" if self.ratio is None else f"{self.ratio:.2f}"
        server = "" if self.server_cpu is None else f"{self.server_cpu:.2f}"
        memory, file = f"{self.peak / _MIB:.0f}", f"{self.file / _MIB:.1f}"
        return (self.name, f"{self.wall:.2f}", ratio, f"{self.cpu:.2f}", server, memory, file)


@dataclass(frozen=True, kw_only=True)
class Target:
    """A promise of ours. `value` is None when the run did not hold what it takes to check it."""

    what: str
    limit: float
    value: float | None

    @property
    def met(self) -> bool | None:
        return None if self.value is None else self.value <= self.limit

    def __str__(self) -> str:
        if self.value is None:
            return f"not measured: {self.what} (at most {self.limit:g})"
        return f"{'met' if self.met else 'MISSED'}: {self.what}: {self.value:.2f} (at most {self.limit:g})"


def lines(runs: Sequence[Runs]) -> list[Line]:
    walls = {run.way.name: statistics.median(cost.wall for cost in run.costs) for run in runs}
    found = []
    for run in runs:
        costs, way = run.costs, run.way
        servers = [cost.server_cpu for cost in costs if cost.server_cpu is not None]
        found.append(
            Line(
                action=way.action,
                name=way.name,
                program=way.program,
                baseline=way.baseline,
                ratio=walls[way.name] / walls[way.baseline] if way.baseline in walls else None,
                wall=walls[way.name],
                walls=tuple(cost.wall for cost in costs),
                cpu=statistics.median(cost.cpu for cost in costs),
                server_cpu=statistics.median(servers) if servers else None,
                peak=max(cost.peak for cost in costs),
                file=int(statistics.median(run.files)),
                output=costs[-1].output.strip(),
            )
        )
    return found


def targets(found: Sequence[Line]) -> list[Target]:
    backup = {line.name: line for line in found if line.action == "backup"}
    restore = {line.name: line for line in found if line.action == "restore"}
    ours = [line for line in found if line.name.startswith(OURS)]
    return [
        Target(what=f"backup, wall against {PG_DUMP}", limit=0.3, value=_against(backup, OURS, PG_DUMP)),
        Target(what=f"backup, wall against {PG_DUMP_ZSTD}", limit=1.0, value=_against(backup, OURS, PG_DUMP_ZSTD)),
        Target(
            what="peak memory of our process in MiB",
            limit=96.0,
            value=max(line.peak for line in ours) / _MIB if ours else None,
        ),
        Target(
            what=f"restore in one transaction, wall against {PG_RESTORE}",
            limit=1.0,
            value=_against(restore, f"{OURS}, one transaction", PG_RESTORE),
        ),
    ]


def _against(group: dict[str, Line], name: str, other: str) -> float | None:
    return group[name].wall / group[other].wall if name in group and other in group else None


def machine(folder: Path) -> dict[str, Any]:
    """What the numbers hold for, and how busy it was before. The programs' versions are in the lines."""
    disk = os.statvfs(folder)
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "free_disk_gib": round(disk.f_bavail * disk.f_frsize / 2**30),
        "load_before": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "asyncpg": version("asyncpg"),
    }


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")), "")


def as_json(found: Sequence[Line], size: int, rounds: int, about: dict[str, Any]) -> dict[str, Any]:
    return {
        "machine": about,
        "database_bytes": size,
        "rounds": rounds,
        "lines": [asdict(line) for line in found],
        "targets": [{**asdict(target), "met": target.met} for target in targets(found)],
    }


def as_markdown(found: Sequence[Line], action: str) -> str:
    rows = [line.cells() for line in found if line.action == action]
    head = [f"| {' | '.join((action, *_HEADINGS[1:]))} |", "|---|" + "---:|" * (len(_HEADINGS) - 1)]
    return "\n".join([*head, *(f"| {' | '.join(row)} |" for row in rows)])


def show(found: Sequence[Line], action: str) -> None:
    """Print a table: by rich where it is installed, in plain columns otherwise."""
    rows = [line.cells() for line in found if line.action == action]
    headings = (action, *_HEADINGS[1:])
    try:
        from rich.console import Console
        from rich.table import Table
    except ImportError:
        print(as_text(rows, headings))
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="right" if number else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    # A pipe has no width: without one of our own, rich would cut the table at 80 columns.
    Console(width=None if sys.stdout.isatty() else 200, markup=False, highlight=False).print(table)


def as_text(rows: Sequence[tuple[str, ...]], headings: tuple[str, ...]) -> str:
    widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]
    return "\n".join(
        "  ".join(cell.rjust(width) if number else cell.ljust(width) for number, (cell, width) in enumerate(cells))
        for cells in (tuple(zip(row, widths, strict=True)) for row in (headings, *rows))
    )
