"""Which database is meant: flags win over variables, and what contradicts itself is refused. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ConfigError

if TYPE_CHECKING:
    from .options import Shared

URL_VARIABLES = ("MSR_DATABASE_URL", "DATABASE_URL")
PROJECT_VARIABLES = ("MSR_FIRESTORE_PROJECT",)
DATABASE_VARIABLES = ("MSR_FIRESTORE_DATABASE",)
EMULATOR_VARIABLES = ("FIRESTORE_EMULATOR_HOST",)

_VARIABLES = {
    "database_url": URL_VARIABLES,
    "project": PROJECT_VARIABLES,
    "database": DATABASE_VARIABLES,
    "credentials": (),
    "emulator": EMULATOR_VARIABLES,
}


class UsageError(ConfigError):
    """The command line cannot be understood; nothing was touched."""


@dataclass(frozen=True, kw_only=True)
class Address:
    """A URL, or a project of Firestore; `credentials` and `emulator` go with a `firestore://` URL, too."""

    url: str | None = None
    project: str | None = None
    database: str | None = None
    credentials: Path | None = None
    emulator: str | None = None


def address(shared: Shared, environ: Mapping[str, str]) -> Address:
    """What the flags and the variables come to.

    Raises:
        UsageError: two databases are named, or half a one.
        ConfigError: none is.
    """
    flags = [name for name in _VARIABLES if _said(shared, name, environ)]
    url = shared.database_url or None
    emulator = shared.emulator or None
    if shared.credentials is not None:
        if "emulator" in flags:
            raise UsageError("An emulator takes no credentials.", hint="Give --emulator or --credentials.")
        emulator = None  # the flag means Google, whatever the variable says
    if "database_url" in flags:
        others = [name for name in flags if name in ("project", "database", "emulator")]
        if others:
            raise UsageError(
                f"--database-url and --{others[0]} name a database each.",
                hint="Give one of them: firestore://PROJECT/DATABASE?emulator=HOST:PORT says all that the others say.",
            )
    elif shared.project:
        if url and "project" not in flags:
            raise UsageError(
                "Two databases are set: a database URL and MSR_FIRESTORE_PROJECT.",
                hint="Pass --database-url or --project to say which one is meant, or unset one of the variables.",
            )
        return Address(
            project=shared.project,
            database=shared.database or None,
            credentials=shared.credentials,
            emulator=emulator,
        )
    for name in ("project", "database", "emulator"):
        if name in flags:
            raise UsageError(f"--{name} alone does not name a database.", hint="Pass --project PROJECT with it.")
    if not url:
        raise ConfigError(
            "No database was named.",
            hint="Pass --database-url postgresql://user@host/name or --project PROJECT, or set DATABASE_URL.",
        )
    if url.startswith("firestore://"):
        return Address(url=url, credentials=shared.credentials, emulator=emulator)
    if "credentials" in flags:
        raise UsageError(
            "--credentials is for Firestore, and the database URL is not.",
            hint="PostgreSQL's user and password stand in its URL.",
        )
    return Address(url=url)


def _said(shared: Shared, name: str, environ: Mapping[str, str]) -> bool:
    """Whether a value comes from a flag. One that is both is what its variable says anyway."""
    value = getattr(shared, name)
    return value is not None and str(value) not in {environ.get(variable) for variable in _VARIABLES[name]}
