"""In which order, and in which transactions, would a plan run?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from ..models import Migration, Plan

if TYPE_CHECKING:
    from ..executor import MigrationScriptExecutor

Enclosure: TypeAlias = Literal["own", "shared", "none", "batches"]
"""In which transaction a script runs: one with its line in the history, one for all of the run, none (each statement on
its own), or its data step in many."""


@dataclass(frozen=True, kw_only=True)
class Step:
    migration: Migration
    path: Path | None
    """The script of the plan's direction; None when it has none, which is one of the plan's issues."""
    transaction: Enclosure | None


def steps_of(plan: Plan, executor: MigrationScriptExecutor[Any]) -> tuple[Step, ...]:
    """All that a run would run, hooks included, with the engine's own judgement of each."""
    from .._engine.stepping import Ground, turns
    from ..config import TransactionMode

    config = executor.config.transaction
    ground = Ground(handler=executor.handler, config=config, emit=lambda event: None, by="", run="")
    found: list[Step] = []
    for turn in turns(plan):
        missing = turn.function == "down" and turn.migration.down is None
        enclosure: Enclosure | None = None
        if not missing:
            way = "shared" if config.mode is TransactionMode.PER_BATCH else ground.way(turn)
            enclosure = _ENCLOSURES[way]
        path = None if missing else turn.script.path
        found.append(Step(migration=turn.migration, path=path, transaction=enclosure))
    return tuple(found)


_ENCLOSURES: dict[str, Enclosure] = {
    "shared": "shared",
    "message": "own",
    "unit": "own",
    "outside": "none",
    "batched": "batches",
}
