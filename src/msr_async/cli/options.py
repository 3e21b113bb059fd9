"""The flags that every command shares, and what they make of the environment."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from cyclopts import Parameter

from ..config import Config
from ..errors import ConfigError
from .addressing import (
    DATABASE_VARIABLES,
    EMULATOR_VARIABLES,
    PROJECT_VARIABLES,
    URL_VARIABLES,
    Address,
    UsageError,
    address,
)

__all__ = ["DEFAULTS", "Format", "Patterns", "Shared", "Switch", "Tags", "UsageError", "locate", "parse_tags"]

Format: TypeAlias = Literal["table", "json"]


Patterns: TypeAlias = Annotated[tuple[str, ...], Parameter(negative="", metavar="PATTERN", show_default=False)]
Tags: TypeAlias = Annotated[tuple[str, ...], Parameter(negative="", metavar="KEY=VALUE", show_default=False)]
Switch: TypeAlias = Annotated[bool, Parameter(negative="", show_default=False)]


@Parameter(name="*", group="Shared by all commands")
@dataclass(frozen=True, kw_only=True)
class Shared:
    """A flag wins over its environment variable, which wins over the default."""

    database_url: Annotated[
        str | None,
        Parameter(
            metavar="URL",
            env_var=URL_VARIABLES,
            help="The database: postgresql://user:password@host:port/name or "
            "firestore://PROJECT[/DATABASE][?emulator=HOST:PORT].",
        ),
    ] = None
    project: Annotated[
        str | None,
        Parameter(metavar="PROJECT", env_var=PROJECT_VARIABLES, help="Firestore: the Google Cloud project."),
    ] = None
    database: Annotated[
        str | None,
        Parameter(
            metavar="DATABASE", env_var=DATABASE_VARIABLES, help="Firestore: the project's database, if not (default)."
        ),
    ] = None
    credentials: Annotated[
        Path | None,
        Parameter(
            metavar="PATH",
            help="Firestore: a service account's file, if not the machine's own credentials.",
        ),
    ] = None
    emulator: Annotated[
        str | None,
        Parameter(metavar="HOST:PORT", env_var=EMULATOR_VARIABLES, help="Firestore: an emulator in Google's place."),
    ] = None
    environment: Annotated[
        str | None,
        Parameter(
            metavar="NAME",
            env_var="MSR_ENVIRONMENT",
            help="What the database is for: production, or development, staging, ..., which may be overwritten.",
        ),
    ] = None
    migrations: Annotated[
        Path, Parameter(metavar="DIR", env_var="MSR_MIGRATIONS", help="The folder of the migrations.")
    ] = Path("migrations")
    backups: Annotated[Path, Parameter(metavar="DIR", env_var="MSR_BACKUPS", help="The folder of the backups.")] = Path(
        "backups"
    )
    format: Annotated[
        Format, Parameter(metavar="FORMAT", help="What standard output gets: text, or one JSON document.")
    ] = "table"
    quiet: Annotated[
        bool, Parameter(negative="", show_default=False, help="Say nothing but errors on standard error.")
    ] = False
    debug: Annotated[bool, Parameter(negative="", show_default=False, help="Show tracebacks of errors.")] = False

    @property
    def address(self) -> Address:
        """The database that is meant."""
        return address(self, os.environ)

    def config(self) -> Config:
        config = Config(folder=self.migrations)
        config.backup.folder = self.backups
        return config


DEFAULTS = Shared()


def parse_tags(tags: Sequence[str]) -> dict[str, str]:
    """`key=value` texts as a mapping; a later one wins."""
    pairs = [tag.partition("=") for tag in tags]
    for tag, (key, sign, _) in zip(tags, pairs, strict=True):
        if not key or not sign:
            raise ConfigError(f"--tag {tag!r} is not a tag.", hint="Write it as key=value, such as release=42.")
    return {key: value for key, _, value in pairs}


def locate(path: Path | None, shared: Shared) -> Path | None:
    """The backup that a person names: a file as the shell sees it, or a bare name in the folder of the backups."""
    if path is None or len(path.parts) > 1:
        return path
    here = Path.cwd() / path
    return here if here.exists() else shared.backups / path
