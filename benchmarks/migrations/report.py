"""What came out: medians, ratios and targets, as tables and as JSON."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ..measuring import Cost
from ..report import Target, as_text
from .arena import Case, Runs, seconds_inside
from .contestants import ALEMBIC, BARE, OURS

_HEADINGS = (
    *("wall s", "/ bare", "/ alembic"),
    *("inside s", "/ bare", "/ alembic"),
    *("CPU s", "/ bare", "server CPU s", "round trips"),
)


@dataclass(frozen=True, kw_only=True)
class Line:
    """One contestant's medians in one case; times are seconds. `inside` leaves Python's start and its imports out."""

    name: str
    program: str
    wall: float
    walls: tuple[float, ...]
    inside: float | None
    insides: tuple[float, ...]
    cpu: float
    cpus: tuple[float, ...]
    server_cpu: float | None
    round_trips: float | None
    connections: float | None


@dataclass(frozen=True, kw_only=True)
class Table:
    case: Case
    lines: tuple[Line, ...]

    def line(self, name: str) -> Line | None:
        return next((line for line in self.lines if line.name == name), None)

    def ratio(self, name: str, other: str, what: str) -> float | None:
        """One contestant's median against another's: of `wall`, `inside` or `cpu`."""
        mine, theirs = self.line(name), self.line(other)
        return _ratio(getattr(mine, what, None), getattr(theirs, what, None))

    def cells(self, line: Line) -> tuple[str, ...]:
        def against(other: str, what: str) -> str:
            return _number(self.ratio(line.name, other, what), 2)

        return (
            line.name,
            *(_number(line.wall, 3), against(BARE, "wall"), against(ALEMBIC, "wall")),
            *(_number(line.inside, 3), against(BARE, "inside"), against(ALEMBIC, "inside")),
            *(_number(line.cpu, 2), against(BARE, "cpu"), _number(line.server_cpu, 2), _number(line.round_trips, 0)),
        )


def table(case: Case, runs: Sequence[Runs]) -> Table:
    return Table(case=case, lines=tuple(_line(run) for run in runs if run.costs))


def _line(run: Runs) -> Line:
    insides = tuple(inside for cost in run.costs if (inside := seconds_inside(cost)) is not None)
    return Line(
        name=run.contestant.name,
        program=run.contestant.program,
        wall=statistics.median(cost.wall for cost in run.costs),
        walls=tuple(cost.wall for cost in run.costs),
        inside=_median(insides),
        insides=insides,
        cpu=statistics.median(cost.cpu for cost in run.costs),
        cpus=tuple(cost.cpu for cost in run.costs),
        server_cpu=_median(_known(run.costs)),
        round_trips=_median(run.round_trips),
        connections=_median(run.connections),
    )


def targets(tables: Sequence[Table], planning: Mapping[str, float]) -> list[Target]:
    """The promises; those that this run cannot check say so."""
    nothing = next((item for item in tables if item.case.applied and not item.case.round_trip), None)
    far = next((item for item in tables if item.case.applied and item.case.round_trip), None)
    ours_far = far.line(OURS) if far else None
    found: list[Target] = []
    for plain, tables_of in ((False, ""), (True, ", plain tables")):
        thousand = next((item for item in tables if _is_here(item.case, plain) and item.case.count == 1_000), None)
        for what, told in (("wall", "process start included"), ("inside", "process start excluded")):
            for other, limit in ((BARE, 0.55), (ALEMBIC, 0.3)):
                value = thousand.ratio(OURS, other, what) if thousand else None
                name = f"1,000 migrations{tables_of}, wall against {other}, {told}"
                found.append(Target(what=name, limit=limit, value=value))
    cpu = nothing.ratio(OURS, BARE, "cpu") if nothing else None
    found.append(Target(what=f"nothing to do, the process's CPU against {BARE}", limit=1.2, value=cpu))
    found.append(Target(what="nothing to do, round trips", limit=1, value=ours_far.round_trips if ours_far else None))
    planned = [seconds for what, seconds in planning.items() if what.startswith("10,000 ")]
    found.append(Target(what="seconds to plan 10,000 files", limit=1.0, value=max(planned, default=None)))
    return found


def _is_here(case: Case, plain: bool) -> bool:
    return not case.applied and not case.round_trip and case.plain is plain


def as_json(
    tables: Sequence[Table], planning: Mapping[str, float], missing: Mapping[str, Sequence[str]], about: dict[str, Any]
) -> dict[str, Any]:
    return {
        **about,
        "missing": {name: list(packages) for name, packages in missing.items()},
        "tables": [{**asdict(item.case), "lines": [asdict(line) for line in item.lines]} for item in tables],
        "planning": dict(planning),
        "targets": [{**asdict(target), "met": target.met} for target in targets(tables, planning)],
    }


def as_columns(item: Table) -> str:
    return as_text([item.cells(line) for line in item.lines], (item.case.name, *_HEADINGS))


def as_markdown(item: Table) -> str:
    rows = [(item.case.name, *_HEADINGS), *(item.cells(line) for line in item.lines)]
    written = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([written[0], "|---|" + "---:|" * len(_HEADINGS), *written[1:]])


def _known(costs: Sequence[Cost]) -> list[float]:
    return [cost.server_cpu for cost in costs if cost.server_cpu is not None]


def _median(values: Sequence[float]) -> float | None:
    return statistics.median(values) if values else None


def _ratio(mine: float | None, theirs: float | None) -> float | None:
    return mine / theirs if mine is not None and theirs else None


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"
