"""May this backup go into that database? The answer to somebody who has the wrong terminal window open."""

from __future__ import annotations

from ..errors import TargetRefused
from ..models import DatabaseInfo

EXPENDABLE = (
    "development",
    "dev",
    "local",
    "test",
    "testing",
    "ci",
    "qa",
    "staging",
    "stage",
    "preview",
    "sandbox",
    "demo",
)
"""The environments that may be overwritten without a word. Any other label, a misspelt one too, is production's."""


def guard_target(source: DatabaseInfo, target: DatabaseInfo, confirm: str | None, *, hint: str | None = None) -> None:
    """Let a restore pass, or refuse it.

    It passes into the very database that the backup came from, into an empty one, into one whose environment is
    one of `EXPENDABLE`, and wherever the caller names the target.

    Args:
        source: where the backup was made, as its manifest says.
        target: what would be overwritten.
        confirm: the target's label, when the caller said it.
        hint: what to do next, in place of naming the target.

    Raises:
        TargetRefused: with the name to give, also when another name was given.
    """
    if confirm is not None:
        if confirm != target.label:
            raise TargetRefused(
                f"The restore was confirmed for {confirm!r}, and the target is {target.label!r}, letter for letter.",
                hint=f'Check which database you mean; if it is this one, give confirm_target="{target.label}".',
            )
        return
    # A physical clone has its original's identity; only the address tells them apart.
    same = source.identity == target.identity and source.host == target.host
    if target.empty or same:
        return
    label = target.environment
    if label is not None and label.strip().casefold() in EXPENDABLE:
        return
    what = (
        f"is labelled {label!r}, which is not one of {', '.join(EXPENDABLE)}" if label else "has no environment label"
    )
    raise TargetRefused(
        f"{target.label} is not empty, is not the database that the backup came from ({source.label}), and {what}.",
        hint=hint or f'If it may be overwritten, name it: confirm_target="{target.label}".',
    )
