"""What came out: medians, ratios and targets, as tables and as JSON."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ..report import Target, as_text
from .arena import Runs
from .contestants import OURS, PLAIN, Action

_MIB = 2**20
_HEADINGS = (
    *("wall s", "/ plain", "CPU s", "/ plain", "without start", "/ plain", "server CPU s", "server's share"),
    *("peak MiB", "file MiB", "documents"),
)
_SHORT = 60


@dataclass(frozen=True, kw_only=True)
class Line:
    """One contestant's medians at one action. `documents` is how many a restore left, None for a backup."""

    action: Action
    name: str
    program: str
    wall: float
    walls: tuple[float, ...]
    cpu: float
    inside: float | None
    """Of the CPU, what came after the process's start and its imports; None where the program does not tell."""
    server_cpu: float | None
    peak: int
    file: int
    documents: int | None
    exact: bool | None
    """Whether all documents were there again with the content they had, each time."""
    failure: str
    """Its first, of a tool that may fail."""
    output: str

    @property
    def servers_share(self) -> float | None:
        """Of the CPU that client and server used together: more than half means that the server is what holds it up."""
        return None if self.server_cpu is None or not self.wall else self.server_cpu / (self.server_cpu + self.cpu)


@dataclass(frozen=True, kw_only=True)
class Table:
    """Contestants at one number of documents, on one server."""

    name: str
    documents: int
    rounds: int
    lines: tuple[Line, ...]
    note: str = ""

    def line(self, action: Action, name: str) -> Line | None:
        return next((line for line in self.lines if (line.action, line.name) == (action, name)), None)

    def ratio(self, action: Action, name: str, other: str, what: str) -> float | None:
        """One contestant's median against another's: of `wall`, `cpu`, `inside` or `peak`."""
        mine, theirs = (getattr(self.line(action, who), what, None) for who in (name, other))
        return mine / theirs if mine is not None and theirs else None

    def rows(self, action: Action) -> list[tuple[str, ...]]:
        return [self._cells(line) for line in self.lines if line.action == action]

    def _cells(self, line: Line) -> tuple[str, ...]:
        if not line.wall:
            return (line.name, *[""] * (len(_HEADINGS) - 1), f"failed: {line.failure[:_SHORT]}")
        return (
            line.name,
            *(_number(line.wall, 2), _number(self.ratio(line.action, line.name, PLAIN, "wall"), 2)),
            *(_number(line.cpu, 2), _number(self.ratio(line.action, line.name, PLAIN, "cpu"), 3)),
            *(_number(line.inside, 2), _number(self.ratio(line.action, line.name, PLAIN, "inside"), 3)),
            *(_number(line.server_cpu, 2), _number(line.servers_share, 2)),
            *(f"{line.peak / _MIB:.0f}", f"{line.file / _MIB:.1f}", _documents(line)),
        )


def table(name: str, documents: int, runs: Sequence[Runs], *, note: str = "") -> Table:
    lines = tuple(_line(item) for item in runs if item.costs or item.failures)
    rounds = max((len(item.costs) for item in runs), default=0)
    return Table(name=name, documents=documents, rounds=rounds, lines=lines, note=note)


def _line(run: Runs) -> Line:
    servers = [cost.server_cpu for cost in run.costs if cost.server_cpu is not None]
    return Line(
        action=run.action,
        name=run.contestant.name,
        program=run.contestant.program,
        wall=_median([cost.wall for cost in run.costs]),
        walls=tuple(cost.wall for cost in run.costs),
        cpu=_median([cost.cpu for cost in run.costs]),
        inside=_inside(run),
        server_cpu=statistics.median(servers) if servers else None,
        peak=max((cost.peak for cost in run.costs), default=0),
        file=int(_median(run.files)),
        documents=min(run.restored, default=None),
        exact=all(run.exact) if run.exact else None,
        failure=run.failures[0] if run.failures else "",
        output=run.costs[-1].output.strip() if run.costs else "",
    )


def _inside(run: Runs) -> float | None:
    found = [cost.cpu - start for cost in run.costs if (start := _start_cpu(cost.output)) is not None]
    return statistics.median(found) if found else None


def _start_cpu(output: str) -> float | None:
    """What the last line says of the process's start; other tools end with other words."""
    try:
        said = json.loads((output.splitlines() or [""])[-1])
        return float(said["start_cpu"])
    except (ValueError, TypeError, KeyError):
        return None


def targets(
    main: Table | None, memory: Sequence[Table] = (), streams: Table | None = None, names: tuple[str, str] = ("", "")
) -> list[Target]:
    """The promises; those that this run cannot check say so.

    Args:
        main: ours beside the plain way.
        memory: ours with few and with many documents.
        streams: the server that is throttled, whose lines have these `names`: one stream, and many.
    """
    found = [
        Target(
            what=f"{action}, {told} against {PLAIN}",
            limit=limit,
            value=main.ratio(action, OURS, PLAIN, what) if main else None,
        )
        for action, what, told, limit in _PROMISES
    ]
    few, many = (memory[0], memory[-1]) if len(memory) > 1 else (None, None)
    counts = f"{many.documents:,} against {few.documents:,} documents" if few and many else "many against few documents"
    for action in ("backup", "restore"):
        value = _peaks(many, action) / _peaks(few, action) if few and many else None
        found.append(Target(what=f"{action}, peak memory of {counts}", limit=1.1, value=value))
    one, eight = (streams.line("backup", name) if streams else None for name in names)
    found.append(
        Target(
            what="many streams against one, wall on a server that is throttled a stream",
            limit=0.25,
            value=eight.wall / one.wall if one and eight else None,
        )
    )
    return found


_PROMISES: tuple[tuple[Action, str, str, float], ...] = (
    ("backup", "wall", "wall", 0.25),
    ("backup", "cpu", "CPU", 0.15),
    ("backup", "inside", "CPU without the process's start and imports", 0.15),
    ("restore", "wall", "wall", 0.25),
    ("restore", "cpu", "CPU", 0.05),
    ("restore", "inside", "CPU without the process's start and imports", 0.05),
)


def _peaks(item: Table, action: Action) -> float:
    return float(max(line.peak for line in item.lines if line.action == action))


def as_json(tables: Sequence[Table], judged: Sequence[Target], about: dict[str, Any]) -> dict[str, Any]:
    return {
        **about,
        "tables": [
            {
                **{name: getattr(item, name) for name in ("name", "documents", "rounds", "note")},
                "lines": [{**asdict(line), "servers_share": line.servers_share} for line in item.lines],
            }
            for item in tables
        ],
        "targets": [{**asdict(target), "met": target.met} for target in judged],
    }


def as_columns(item: Table, action: Action) -> str:
    return as_text(item.rows(action), (f"{item.name}: {action}", *_HEADINGS))


def as_markdown(item: Table, action: Action) -> str:
    written = [f"| {' | '.join(row)} |" for row in ((f"{item.name}: {action}", *_HEADINGS), *item.rows(action))]
    return "\n".join([written[0], "|---|" + "---:|" * len(_HEADINGS), *written[1:]])


def _documents(line: Line) -> str:
    if line.documents is None:
        return "failed once" if line.failure else ""
    return f"{line.documents:,}{'' if line.exact else ', changed'}"


def _median(values: Sequence[float]) -> float:
    return statistics.median(values) if values else 0.0


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"
