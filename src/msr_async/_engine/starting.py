"""New migration files: named after the moment and newer than all that are there, so that they run last."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import anyio
import anyio.to_thread

from ..errors import ConfigError
from ..models import Language, Migration
from .loading import load

_UP = "-- What changes. All of it and its line in the history are one transaction.\n"
_DOWN = "-- What undoes it.\n"
_PYTHON = '''"""{title}."""


async def up(db, ctx):
    """What changes; `db` is a connection inside of a transaction."""
'''
_PYTHON_DOWN = '''

async def down(db, ctx):
    """What undoes it."""
'''


async def start(folder: Path, name: str, language: Language, *, down: bool) -> tuple[Path, ...]:
    """Write the files of a new migration, newer than all that are there; the folder is made if it is missing.

    Returns:
        Their paths, `up` first.
    """
    plain = slug(name)
    try:
        await anyio.Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{folder} cannot be made: {error.strerror}.", hint="Choose another folder.") from error
    stem = f"V{next_version((await load(folder)).migrations, datetime.now(UTC))}_{plain}"
    return await write_new(folder, stem, plain.replace("_", " ").capitalize(), language, down=down)


def next_version(migrations: Sequence[Migration], now: datetime) -> str:
    """The moment in UTC, with as many digits as the newest migration has, and greater than it."""
    newest = max((m for m in migrations if m.version is not None), key=lambda m: m.version or 0, default=None)
    length = newest.up.path.name.index("_") - 1 if newest else 14  # V<digits>_
    stamp = f"{now.astimezone(UTC):%Y%m%d%H%M%S}".ljust(14, "0")[:length]
    least = (newest.version or 0) + 1 if newest else 0
    return f"{max(int(stamp), least):0{length}}"


def slug(name: str) -> str:
    """A name as a piece of a file name.

    Raises:
        ConfigError: when nothing of it is left.
    """
    plain = re.sub(r"\W+", "_", name.strip(), flags=re.ASCII).strip("_").lower()
    if not plain:
        raise ConfigError(f"{name!r} is no name for a migration.", hint="Use letters and digits: add_orders.")
    return plain


async def write_new(folder: Path, stem: str, title: str, language: Language, *, down: bool) -> tuple[Path, ...]:
    """Write the files of a new migration; none is ever overwritten.

    Returns:
        Their paths, `up` first.
    """
    if language == "py":
        texts = {folder / f"{stem}.py": _PYTHON.format(title=title) + (_PYTHON_DOWN if down else "")}
    else:
        texts = {folder / f"{stem}.up.sql": _UP} | ({folder / f"{stem}.down.sql": _DOWN} if down else {})

    def write() -> None:
        for path, text in texts.items():
            try:
                with path.open("x", encoding="utf-8") as file:
                    file.write(text)
            except OSError as error:
                raise ConfigError(
                    f"{path} cannot be written: {error.strerror}.", hint="Choose another name or folder."
                ) from error

    await anyio.to_thread.run_sync(write)
    return tuple(texts)
