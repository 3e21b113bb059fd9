"""Which migrations does a folder hold? Reads it in a worker thread and says what it could not make sense of."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import anyio.to_thread

from ..errors import ConfigError
from ..models import Issue, Language, Migration, Script
from .validating import defines_down

_NAME = re.compile(r"V(?P<digits>[0-9]{12,14})_(?P<name>.+?)\.(?P<kind>up\.sql|down\.sql|py)")
_LOOKS_LIKE_ONE = re.compile(r"[Vv]_?[0-9].*\.(sql|py)", re.IGNORECASE)
_WORTH_A_WORD = re.compile(r".*\.sql|V[0-9]{12,14}_.*", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class _File:
    path: Path
    version: int
    name: str
    kind: str
    text: str

    @property
    def key(self) -> tuple[int, str]:
        return self.version, self.name

    @property
    def script(self) -> Script:
        language: Language = "py" if self.kind == "py" else "sql"
        return Script(path=self.path, text=self.text, language=language)


async def load(folder: Path) -> tuple[tuple[Migration, ...], tuple[Issue, ...]]:
    """Read a folder and its sub-folders.

    Returns:
        The migrations by version, and what is wrong with the files themselves. Doubles are kept: planning judges them.

    Raises:
        ConfigError: when there is no such folder.
    """
    return await anyio.to_thread.run_sync(_load, folder)


def checksum(text: str) -> str:
    """SHA-256 of a script, the same on every system: line endings and a byte-order mark do not count."""
    plain = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    return hashlib.sha256(plain.encode()).hexdigest()


def digits(path: Path) -> int:
    """How many digits the version in a migration's file name has."""
    match = _NAME.fullmatch(path.name)
    return len(match["digits"]) if match else 0


def _load(folder: Path) -> tuple[tuple[Migration, ...], tuple[Issue, ...]]:
    if not folder.is_dir():
        found = "is not a folder" if folder.exists() else "does not exist"
        raise ConfigError(
            f"The migrations folder {folder} {found}.", hint="Make it, or set the config's folder to where they are."
        )
    issues: list[Issue] = []
    files: list[_File] = []
    for path in _walk(folder, issues):
        match = _NAME.fullmatch(path.name)
        if match is None:
            issues.extend(_misnamed(path))
            continue
        text = _read(path, issues)
        if text is not None:
            files.append(
                _File(path=path, version=int(match["digits"]), name=match["name"], kind=match["kind"], text=text)
            )
    migrations = _pair(files, issues)
    return tuple(sorted(migrations, key=lambda migration: (migration.version, str(migration.up.path)))), tuple(issues)


def _walk(folder: Path, issues: list[Issue]) -> Iterator[Path]:
    def unreadable(error: OSError) -> None:
        issues.append(_issue("unreadable", f"The folder cannot be read: {error.strerror}.", Path(error.filename)))

    seen: set[str] = set()
    for root, folders, names in os.walk(folder, followlinks=True, onerror=unreadable):
        real = os.path.realpath(root)
        if real in seen:  # a link to a folder above or beside would give every migration twice, or for ever
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name != "__pycache__")
        for name in sorted(names):
            if not name.startswith("."):
                yield Path(root, name)


def _read(path: Path, issues: list[Issue]) -> str | None:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        issues.append(_issue("unreadable", f"The file cannot be read: {error.strerror}.", path))
        return None
    except UnicodeDecodeError as error:
        issues.append(_issue("not-utf8", f"The file is not UTF-8 (byte {error.start}). Save it as UTF-8.", path))
        return None
    if "\0" in text:
        issues.append(_issue("not-text", "The file holds a NUL character. Save it as plain UTF-8 text.", path))
        return None
    return text


def _pair(files: Sequence[_File], issues: list[Issue]) -> Iterator[Migration]:
    ups = [file for file in files if file.kind != "down.sql"]
    downs = [file for file in files if file.kind == "down.sql"]
    paired: dict[Path, Script] = {file.path: file.script for file in ups if defines_down(file.script)}
    for beside in (True, False):  # the one in the same folder first; up/ and down/ folders work too
        for up in ups:
            if up.kind == "py" or up.path in paired:
                continue
            for down in downs:
                if down.key == up.key and (down.path.parent == up.path.parent or not beside):
                    paired[up.path] = down.script
                    downs.remove(down)
                    break
    for file in ups:
        yield Migration(
            version=file.version,
            name=file.name,
            up=file.script,
            down=paired.get(file.path),
            checksum=checksum(file.text),
        )
    for file in downs:
        issues.append(
            _issue(
                "down-without-up",
                f"There is no V{file.version}_{file.name}.up.sql for this down script. "
                "Give both the same version and name.",
                file.path,
            )
        )


def _misnamed(path: Path) -> Iterator[Issue]:
    if _LOOKS_LIKE_ONE.fullmatch(path.name):
        yield _issue(
            "misnamed",
            "The file looks like a migration and is not named like one. "
            "Use V<12 to 14 digits>_<name>.up.sql, .down.sql or .py.",
            path,
        )
    elif _WORTH_A_WORD.fullmatch(path.name):
        yield Issue(
            code="not-a-migration", severity="warning", message="The file is not a migration and is not run.", path=path
        )


def _issue(code: str, message: str, path: Path) -> Issue:
    return Issue(code=code, severity="error", message=message, path=path)
