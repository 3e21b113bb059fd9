"""What would a run do? Decided from the files, the history and the settings; nothing here waits or touches anything."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from ..config import Check, Config, Policy, RollbackStrategy, TransactionMode
from ..errors import words_of
from ..models import NO_DIRECTIVES, AppliedMigration, Direction, Issue, Migration, Plan, Script, Severity, Version
from .comparing import (
    by_id,
    changed_files,
    doubles,
    in_order,
    missing_files,
    nearest,
    out_of_order,
    severity_of,
    versions_of,
)
from .loading import Folder
from .validating import Inspect

_Files = Mapping[str, Sequence[Migration]]
_Allowed = Mapping[Path, Sequence[str]]


def plan(
    folder: Folder,
    applied: Sequence[AppliedMigration],
    config: Config,
    inspect: Inspect,
    *,
    direction: Direction = "up",
    target: Version | None = None,
    outside: Callable[[Script], bool] = lambda script: False,
) -> Plan:
    """Compare the files with the history.

    Args:
        applied: the history, in any order.
        inspect: says what is wrong with a script without running it; asked about those that would run only.
        target: for `up` the last version to run, None for all; for `down` the version to go back to, 0 for nothing.
        outside: whether the database must run a script of its own language outside of a transaction.
    """
    files, history = by_id(folder.migrations), in_order(applied)
    choose = _up if direction == "up" else _down
    choice = choose(folder, files, history, config, target)
    made = Plan(
        pending=choice.pending,
        applied=history,
        direction=direction,
        target=target,
        before=folder.before,
        after=folder.after,
        reapplied=choice.reapplied,
    )
    issues = (
        *folder.issues,
        *doubles(files),
        *choice.issues,
        *_unfit(made, config, outside),
        *_inspected(made, inspect),
    )
    everything = (*folder.migrations, *(hook for hook in (folder.before, folder.after) if hook))
    return replace(made, issues=_settled(issues, _allowed(everything), config))


def judged(decided: Plan, issues: Iterable[Issue], config: Config) -> Plan:
    """The plan with more findings and those of the config's own checks, after `allow` and `strict`.

    A plan may be judged again when more is known: what is said twice is kept once.
    """
    found = [*issues, *(issue for check in config.checks for issue in _checked(check, decided))]
    settled = _settled(found, _allowed(decided.steps), config)
    strict = _settled(decided.issues, {}, config)
    return replace(decided, issues=tuple(dict.fromkeys((*strict, *settled))))


class _Choice(Struct, frozen=True, kw_only=True):
    """What one direction comes to."""

    pending: tuple[Migration, ...] = ()
    reapplied: tuple[AppliedMigration, ...] = ()
    issues: tuple[Issue, ...] = ()


# -- up -------------------------------------------------------------------------------------------


def _up(
    folder: Folder, files: _Files, history: Sequence[AppliedMigration], config: Config, target: Version | None
) -> _Choice:
    known = {entry.id: entry for entry in history}
    versioned = [entry for entry in history if entry.version is not None]
    issues = [*missing_files(files, known, config), *changed_files(files, known, config)]
    if target is not None:
        issues.extend(_unknown(target, versions_of((*folder.migrations, *history)), "migration"))
    waiting = [item for id, same in files.items() if id not in known for item in same if item.version is not None]
    kept = list(out_of_order(waiting, versioned[-1] if versioned else None, config))
    due = [(item, issue) for item, issue in kept if target is None or (item.version or 0) <= target]
    issues.extend(issue for _, issue in due if issue)
    pending = [item for item, _ in due]
    issues.extend(_missing_downs(pending, config))
    reapplied: list[AppliedMigration] = []
    if len(due) == len(kept):  # a repeatable script is written for the newest schema
        for item in folder.migrations:
            entry = known.get(item.id) if item.version is None else None
            if item.version is None and (entry is None or entry.checksum != item.checksum):
                pending.append(item)
                reapplied.extend((entry,) if entry else ())
    return _Choice(pending=tuple(pending), reapplied=tuple(reapplied), issues=tuple(issues))


def _missing_downs(pending: Iterable[Migration], config: Config) -> Iterator[Issue]:
    """Under a strategy that goes down on failure."""
    if config.rollback_strategy not in (RollbackStrategy.DOWN, RollbackStrategy.BOTH):
        return
    policy = config.missing_down
    if policy is None:
        policy = Policy.ERROR if config.rollback_strategy is RollbackStrategy.DOWN else Policy.WARN
    severity = severity_of(policy)
    if severity is None:
        return
    for migration in pending:
        if migration.down is None:
            yield _missing_down(migration, f"and the rollback strategy is {config.rollback_strategy}", severity)


# -- down -----------------------------------------------------------------------------------------


def _down(
    _folder: Folder, files: _Files, history: Sequence[AppliedMigration], config: Config, target: Version | None
) -> _Choice:
    if target is None:
        message = "The way down needs a target: a version that was applied, or 0 to undo all."
        return _Choice(issues=(_issue("unknown-target", message),))
    above = {entry.id: entry for entry in reversed(history) if entry.version is not None and entry.version > target}
    issues = list(_unknown(target, [0, *versions_of(history)], "applied migration"))
    issues.extend(changed_files(files, above, config))
    pending: list[Migration] = []
    for id, entry in above.items():
        same = files.get(id)
        if entry.baseline:
            message = f"{entry} was never run here: the database was declared to have it, so it cannot be undone."
            issues.append(_issue("baselined", f"{message} Choose a target from {entry.version} up."))
        elif not same:
            message = f"{entry} is to be undone and its file is missing. Put the file back."
            issues.append(_issue("missing-file", message))
        else:
            # of doubles, which are an error, the one that was applied
            migration = next((item for item in same if item.checksum == entry.checksum), same[0])
            pending.append(migration)
            if migration.down is None:
                issues.append(_missing_down(migration, "and is to be undone", "error"))
    return _Choice(pending=tuple(pending), issues=tuple(issues))


# -- both -----------------------------------------------------------------------------------------


def _unknown(target: Version, versions: Sequence[Version], what: str) -> Iterator[Issue]:
    if target not in versions:
        around = nearest(versions, target) or "There is none at all."
        yield _issue("unknown-target", f"There is no {what} {target} to stop at. {around}")


def _to_run(decided: Plan, step: Migration) -> Script | None:
    return step.down if decided.direction == "down" and step.kind != "hook" else step.up


def _unfit(decided: Plan, config: Config, outside: Callable[[Script], bool]) -> Iterator[Issue]:
    """Scripts that ask for what they cannot have."""
    for step in decided.steps:
        script = _to_run(decided, step)
        if step.batched and step.kind != "versioned":
            message = f"{step} has a `data` step in batches, which only a versioned migration may have."
            yield _issue("data-not-allowed", message, path=step.up.path)
        if script is None or config.transaction.mode is not TransactionMode.PER_BATCH:
            continue
        said = script.directives
        if not said.transaction or (script.language != "py" and outside(script)):
            message = f"{step} runs outside of a transaction, and the mode is per_batch. Use per_migration."
            yield _issue("no-transaction", message, path=script.path)
        if said.isolation is not None:
            message = f"{step} asks for an isolation level, and the mode is per_batch: set transaction.isolation."
            yield _issue("isolation", message, path=script.path)
        if step.batched and decided.direction == "up":
            message = f"{step} commits its data step in batches, and the mode is per_batch. Use per_migration."
            yield _issue("batched", message, path=script.path)


def _inspected(decided: Plan, inspect: Inspect) -> Iterator[Issue]:
    """For `up` the ways down too: a failed run may need them."""
    for step in decided.steps:
        script = _to_run(decided, step)
        if script is not None:
            yield from inspect(script)
        if step.down is not None and step.down is not script:
            yield from inspect(step.down)


def _checked(check: Check, decided: Plan) -> Iterator[Issue]:
    """One of the user's own checks; one that breaks must not look like one that found nothing."""
    name = getattr(check, "__qualname__", type(check).__qualname__)
    try:
        found = list(check(decided))
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        said = f"{type(error).__name__}: {words_of(error)}"
        yield _issue("check-failed", f"The check {name} failed: {said}. Repair it.")
        return
    for item in found:
        if isinstance(item, Issue):
            yield item
        else:
            yield _issue("check-failed", f"The check {name} gave {type(item).__name__} instead of Issue. Repair it.")


def _allowed(migrations: Iterable[Migration]) -> _Allowed:
    return {
        script.path: script.directives.allow
        for migration in migrations
        for script in (migration.up, migration.down)
        if script is not None and script.directives is not NO_DIRECTIVES
    }


def _settled(issues: Iterable[Issue], allowed: _Allowed, config: Config) -> tuple[Issue, ...]:
    """Without the warnings that their script allows; under strict the rest of them are errors."""
    kept = (
        issue
        for issue in issues
        if issue.severity == "error" or issue.path is None or issue.code not in allowed.get(issue.path, ())
    )
    if config.strict:
        return tuple(replace(issue, severity="error") for issue in kept)
    return tuple(kept)


def _missing_down(migration: Migration, why: str, severity: Severity) -> Issue:
    wanted = "an `async def down(db, ctx)`" if migration.up.language == "py" else f"a {migration}.down.sql"
    message = f"{migration} has no way down, {why}. Write {wanted}."
    return _issue("missing-down", message, path=migration.up.path, severity=severity)


def _issue(code: str, message: str, *, path: Path | None = None, severity: Severity = "error") -> Issue:
    return Issue(code=code, severity=severity, message=message, path=path)
