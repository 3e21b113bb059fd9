"""Which version does a person mean? Its digits, or the whole name, which must then be a migration's."""

from __future__ import annotations

import re

from ..models import Version
from .options import Shared, UsageError

_TARGET = re.compile(
    r"(?:V(?=\d{12}))?(?P<digits>\d{1,14})(?:_(?P<name>.*?)(?:\.up\.sql|\.down\.sql|\.py)?)?", re.ASCII | re.DOTALL
)


async def target_of(target: str, shared: Shared) -> Version:
    """A version, or the name of a migration as other commands print it.

    Raises:
        UsageError: it is neither, or the migration of that version has another name: one of the two is a slip.
    """
    found = _TARGET.fullmatch(target)
    if not found:
        raise UsageError(
            f"{target!r} is not a version.", hint="Give the digits of a migration's file name, such as 202611220900."
        )
    version = int(found["digits"])
    if found["name"] is not None:
        await _check_name(target, version, found["name"], shared)
    return version


async def _check_name(target: str, version: Version, name: str, shared: Shared) -> None:
    from .._engine.loading import load

    if version == 0:
        raise UsageError(f"{target!r} is not a migration.", hint="Give 0 alone to go back to before the first one.")
    migrations = (await load(shared.migrations)).migrations
    there = [migration for migration in migrations if migration.version == version]
    if there and name not in [migration.name for migration in there]:
        raise UsageError(
            f"{target!r} is not a migration: the one of this version is {there[0]}.",
            hint=f"Give {version}, if you mean that one.",
        )
