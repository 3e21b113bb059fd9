"""Which files of a folder are migrations? Walks it, knows the names, reads the texts; each file is opened once."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, TypeAlias

from msgspec import Struct

from ..models import Issue, Kind, Language

Side: TypeAlias = Literal["up", "down"]

_VERSIONED = re.compile(r"V(?P<digits>[0-9]{12,14})_(?P<name>.+?)\.(?P<ending>up\.sql|down\.sql|py)")
_REPEATABLE = re.compile(r"R__(?P<name>.+?)(?P<side>\.up|\.down)?\.(?P<ending>sql|py)")
_HOOK = re.compile(r"(?P<name>before_migrate|after_migrate)\.(?P<ending>sql|py)")
# texts, which `re` compiles when they are first used: few files need them
_LOOKS_LIKE_ONE = r"(?i)v_?[0-9].*\.(sql|py)|r__.*\.(sql|py)"
_WORTH_A_WORD = r"(?i).*\.sql|V[0-9]{12,14}_.*"
_PIECE = 1 << 16
_MARK = b"\xef\xbb\xbf"


class File(Struct, gc=False):
    """A file that is a migration by its name, or one half of it."""

    path: str
    kind: Kind
    name: str
    text: str
    language: Language
    side: Side = "up"
    version: int | None = None
    digits: int = 0
    """How many the version has; 0 where there is no version."""


def find(folder: Path, issues: list[Issue]) -> Iterator[File]:
    """All of them in a folder and its sub-folders, by name within each; what does not fit becomes an issue."""
    for entry, top in _walk(os.fspath(folder), issues):
        file = _recognised(entry.name)
        if file is not None and not _is_text(entry.name):  # the history could not hold it
            message = "The name of the file is not UTF-8. Give it another one."
            issues.append(_issue("not-utf8", message, entry.path))
        elif file is None:
            issues.extend(_misnamed(entry))
        elif file.kind == "hook" and not top:
            message = (
                f"A hook stands at the top of the migrations folder. This {file.name} is in a folder of it: not run."
            )
            issues.append(_issue("hook-not-at-top", message, entry.path, warning=True))
        elif file.kind == "repeatable" and file.side == "down":
            message = f"A repeatable script has no way down. Put what undoes R__{file.name} into a new migration."
            issues.append(_issue("repeatable-down", message, entry.path))
        elif (text := _read(entry, issues)) is not None:
            file.path, file.text = entry.path, text
            yield file


def _recognised(name: str) -> File | None:
    if match := _VERSIONED.fullmatch(name):
        ending = match["ending"]
        return File(
            path="",
            kind="versioned",
            name=match["name"],
            text="",
            language="py" if ending == "py" else "sql",
            side="down" if ending == "down.sql" else "up",
            version=int(match["digits"]),
            digits=len(match["digits"]),
        )
    match = _REPEATABLE.fullmatch(name)
    if match and match["side"] != ".up":
        side: Side = "down" if match["side"] else "up"
        return File("", "repeatable", match["name"], "", "py" if match["ending"] == "py" else "sql", side)
    if match := _HOOK.fullmatch(name):
        return File("", "hook", match["name"], "", "py" if match["ending"] == "py" else "sql")
    return None


def _walk(folder: str, issues: list[Issue]) -> Iterator[tuple[os.DirEntry[str], bool]]:
    """Every file that is not hidden, and whether it stands at the top; links to folders are followed."""
    seen: set[str] = set()
    waiting = [folder]
    while waiting:
        current = waiting.pop()
        real = os.path.realpath(current)
        if real in seen:  # a link to a folder above or beside would give every migration twice, or for ever
            continue
        seen.add(real)
        try:
            with os.scandir(current) as found:
                entries = sorted((entry for entry in found if entry.name[0] != "."), key=lambda entry: entry.name)
        except OSError as error:
            issues.append(_issue("unreadable", f"The folder cannot be read: {error.strerror}.", current))
            continue
        inner: list[str] = []
        for entry in entries:
            if _is_folder(entry):
                inner.append(entry.path)
            else:
                yield entry, current == folder
        waiting.extend(path for path in reversed(inner) if os.path.basename(path) != "__pycache__")


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _is_text(name: str) -> bool:
    """Whether it is what its bytes mean: those that are no UTF-8 come as lone surrogates."""
    return name.isascii() or not any("\ud800" <= char <= "\udfff" for char in name)


def _read(entry: os.DirEntry[str], issues: list[Issue]) -> str | None:
    try:
        if not entry.is_file():  # a pipe that nobody writes to would hold the run up for ever
            message = "The file cannot be read: it is a link to nothing, or not an ordinary file."
            issues.append(_issue("unreadable", message, entry.path))
            return None
        content = _content(entry.path)
        text = str(content, "utf-8") if content[:3] != _MARK else str(content[3:], "utf-8")
    except OSError as error:
        issues.append(_issue("unreadable", f"The file cannot be read: {error.strerror}.", entry.path))
        return None
    except UnicodeDecodeError as error:
        message = f"The file is not UTF-8 (byte {error.start}). Save it as UTF-8."
        issues.append(_issue("not-utf8", message, entry.path))
        return None
    if "\0" in text:
        issues.append(_issue("not-text", "The file holds a NUL character. Save it as plain UTF-8 text.", entry.path))
        return None
    return text


def _content(path: str) -> bytes:
    """All of a file, by half as many system calls as `open().read()` makes: they are most of what it costs."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        pieces = [os.read(descriptor, _PIECE)]
        while pieces[-1]:
            pieces.append(os.read(descriptor, _PIECE))
    finally:
        os.close(descriptor)
    return b"".join(pieces)


def _misnamed(entry: os.DirEntry[str]) -> Iterator[Issue]:
    if re.fullmatch(_LOOKS_LIKE_ONE, entry.name):
        message = (
            "The file looks like a migration and is not named like one. "
            "Use V<12 to 14 digits>_<name>.up.sql, .down.sql or .py, or R__<name>.sql or .py."
        )
        yield _issue("misnamed", message, entry.path)
    elif re.fullmatch(_WORTH_A_WORD, entry.name):
        yield _issue("not-a-migration", "The file is not a migration and is not run.", entry.path, warning=True)


def _issue(code: str, message: str, path: str, *, warning: bool = False) -> Issue:
    return Issue(code=code, severity="warning" if warning else "error", message=message, path=Path(path))
