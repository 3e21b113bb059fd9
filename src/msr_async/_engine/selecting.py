"""What becomes of a selection whose patterns mean nothing that is there: most often they are misspelt. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase

from ..errors import BackupFailed
from ..models import Selection, SnapshotDetails

_SHOWN = 5


def check_selection(selection: Selection, details: SnapshotDetails) -> tuple[str, ...]:
    """What to warn of, a sentence a pattern.

    Raises:
        BackupFailed: everything that was to be in the backup is missing.
    """
    unmatched = set(details.unmatched)
    if selection.include and unmatched.issuperset(selection.include):
        raise BackupFailed(
            f"Nothing is in the database that include means: {_listed(selection.include)}.",
            hint=_advice(selection.include, details.names),
        )
    return tuple(
        f"{setting} {pattern} means nothing that is in the database. {_advice([pattern], details.names)}"
        for setting, patterns in (("include", selection.include), ("exclude", selection.exclude))
        for pattern in patterns
        if pattern in unmatched
    )


def _advice(patterns: Iterable[str], names: Sequence[str]) -> str:
    near = [name for pattern in patterns for name in _near(pattern, names)]
    if near:
        return f"Did you mean {_listed(near)}?"
    return f"There are: {_listed(names)}." if names else "It is empty."


def _near(pattern: str, names: Sequence[str]) -> Sequence[str]:
    """A pattern without its schema is the most usual slip."""
    holding = [name for name in names if fnmatchcase(name, f"*{pattern}*")]
    return holding or get_close_matches(pattern, names, n=_SHOWN)


def _listed(names: Sequence[str]) -> str:
    unique = list(dict.fromkeys(names))
    return ", ".join(unique[:_SHOWN]) + (" ..." if len(unique) > _SHOWN else "")
