"""Files, history and settings brought together in a plan; nothing is locked or written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from ..config import Config
from ..errors import ValidationFailed
from ..models import AppliedMigration, Direction, Migration, Plan, Script, Version
from ..protocols import DatabaseMigrationHandler
from .comparing import in_order
from .loading import Folder
from .planning import judged, plan
from .validating import inspector

ConnT = TypeVar("ConnT")


async def survey(
    handler: DatabaseMigrationHandler[ConnT],
    config: Config,
    folder: Folder,
    direction: Direction = "up",
    target: Version | None = None,
) -> Plan:
    """What a run would do: of the database only the history is read."""
    return _decided(handler, config, folder, await handler.schema_version.applied(), direction, target)


async def surveyed_again(
    handler: DatabaseMigrationHandler[ConnT], config: Config, folder: Folder, before: Plan
) -> Plan:
    """The same, later: the very plan that was made `before`, where the history has not changed since."""
    applied = await handler.schema_version.applied()
    if in_order(applied) == before.applied:
        return before
    return _decided(handler, config, folder, applied, before.direction, before.target)


def _decided(
    handler: DatabaseMigrationHandler[ConnT],
    config: Config,
    folder: Folder,
    applied: Sequence[AppliedMigration],
    direction: Direction,
    target: Version | None,
) -> Plan:
    decided = plan(
        folder,
        applied,
        config,
        inspector(handler.inspect),
        direction=direction,
        target=target,
        outside=handler.outside,
    )
    return judged(decided, (), config)


async def reviewed(handler: DatabaseMigrationHandler[ConnT], config: Config, decided: Plan) -> Plan:
    """The plan with what the database says of the scripts that would run."""
    if not config.lint or not decided.pending or decided.errors:
        return decided
    scripts = [script for step in decided.steps if (script := _script(step, decided.direction)) is not None]
    found = await handler.review([script for script in scripts if script.language != "py"])
    return judged(decided, found, config)


def refuse_errors(decided: Plan) -> None:
    """Raises:
    ValidationFailed: with everything that is wrong.
    """
    if decided.errors:
        raise ValidationFailed(decided.errors)


def _script(step: Migration, direction: Direction) -> Script | None:
    return step.down if direction == "down" and step.kind != "hook" else step.up
