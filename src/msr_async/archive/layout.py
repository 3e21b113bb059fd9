"""Which members a backup file holds, what they are called, and whether this version can read a file at all."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from ..errors import BackupDamaged, BackupFailed, BackupTooNew, NotABackup

FORMAT_MAJOR = 1
FORMAT_MINOR = 0
READER = "0.1"
"""The first msr_async that reads this format; told to older ones by `format.json`."""

README_MEMBER = "README.txt"
FORMAT_MEMBER = "format.json"
MANIFEST_MEMBER = "manifest.json.zst"

MAX_CHUNK = 8 * 1024 * 1024
"""Bytes of raw data in a chunk of more than one row."""
MAX_RAW = 1024 * 1024 * 1024
"""Bytes of raw data in any member: PostgreSQL cannot send a longer row."""
MAX_FORMAT_JSON = 64 * 1024
MAX_NAME = 200
MAX_INDEX = 999_999
"""The highest number that the six digits of a part or a chunk can say."""

_PIECE = r"[A-Za-z0-9][A-Za-z0-9_-]*(?:\.[A-Za-z0-9_-]+)*"
_SAFE = re.compile(rf"{_PIECE}(?:/{_PIECE})*")
# Lower case only: where a file system ignores case, two names that differ in it would be one file.
_DOCUMENT = re.compile(r"[a-z0-9][a-z0-9_-]*(?:\.[a-z0-9_-]+)*")
_CHUNK_MEMBER = re.compile(r"data/[0-9]{6}/[0-9]{6}\.zst")
_PLAIN_MEMBERS = frozenset({README_MEMBER, FORMAT_MEMBER, MANIFEST_MEMBER})
_RELEASE = re.compile(r"msr_async>=([0-9]{1,6}(?:\.[0-9]{1,6}){0,3})")


def chunk_member(part: int, chunk: int) -> str:
    """The member that holds a chunk of a part, both counted from 0.

    Raises:
        BackupFailed: when a number needs more than six digits.
    """
    if not 0 <= part <= MAX_INDEX:
        raise BackupFailed(
            f"A backup holds at most {MAX_INDEX + 1:,} parts.", hint="Back up fewer tables at a time: set include."
        )
    if not 0 <= chunk <= MAX_INDEX:
        raise BackupFailed(
            f"A part of a backup holds at most {MAX_INDEX + 1:,} chunks.", hint="Raise backup.chunk_size (up to 8 MiB)."
        )
    return f"data/{part:06}/{chunk:06}.zst"


def document_member(name: str) -> str:
    """The member that holds a document of the schema: `pre-data.sql` is in `schema/pre-data.sql.zst`.

    Raises:
        BackupFailed: when the name is not a plain file name in lower case.
    """
    member = f"schema/{name}.zst"
    if not _DOCUMENT.fullmatch(name) or len(member) > MAX_NAME:
        raise BackupFailed(
            f"A backup cannot hold a document called {name[:MAX_NAME]!r}.",
            hint="Its backend must name it with lower-case letters, digits, _ and -, with single dots between.",
        )
    return member


def check_safe_name(name: str) -> None:
    """Refuse a name that no version of the format uses: absolute, `..`, backslash, NUL, empty or hidden pieces.

    Raises:
        BackupDamaged: for such a name.
    """
    if len(name) > MAX_NAME or not _SAFE.fullmatch(name):
        raise BackupDamaged(f"a member has the name {name[:MAX_NAME]!r}, which is not allowed")


def check_member_name(name: str) -> None:
    """Refuse a name that is not one of this version's members.

    Raises:
        BackupDamaged: for such a name.
    """
    check_safe_name(name)
    if name in _PLAIN_MEMBERS or _CHUNK_MEMBER.fullmatch(name):
        return
    if name.startswith("schema/") and name.endswith(".zst") and _DOCUMENT.fullmatch(name[7:-4]):
        return
    raise BackupDamaged(f"it holds {name!r}, which does not belong in a backup")


def readme_text() -> bytes:
    """What stands first in every backup file, for somebody who has nothing but the file."""
    return _README.encode("ascii")


def format_json() -> bytes:
    """The member that says how the rest is to be read."""
    content = {
        "format": "msr-backup",
        "major": FORMAT_MAJOR,
        "minor": FORMAT_MINOR,
        "reader": f"msr_async>={READER}",
        "compression": "zstd",
        "encryption": None,
        "features": [],
    }
    return msgspec.json.encode(content) + b"\n"


def check_format(data: bytes) -> None:
    """Decide from `format.json` whether this version can read the file; keys it does not know are ignored.

    Raises:
        NotABackup: when these bytes do not describe a backup.
        BackupTooNew: when a newer version is needed; names it where the file tells.
    """
    try:
        content = msgspec.json.decode(data, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise _not_ours() from None
    major = content.get("major")
    if content.get("format") != "msr-backup" or type(major) is not int or major < 1:
        raise _not_ours()
    if major > FORMAT_MAJOR:
        raise _too_new(f"has format {major}; this msr_async reads format {FORMAT_MAJOR}", content)
    features = content.get("features", [])
    if not isinstance(features, list):
        raise _not_ours()
    if features:
        raise _too_new(f"uses the feature {str(features[0])[:60]!r}, which this msr_async does not know", content)
    for key, known in (("compression", "zstd"), ("encryption", None)):
        value = content.get(key, known)
        if value != known:
            raise _too_new(f"uses the {key} {str(value)[:60]!r}, which this msr_async does not know", content)


def _not_ours() -> NotABackup:
    return NotABackup(
        "The file is not a backup of msr_async: its format.json does not describe one.",
        hint="Give the path of a .msrbak file that msr_async made.",
    )


def _too_new(problem: str, content: dict[str, Any]) -> BackupTooNew:
    # Only a plain version number is repeated: the file is not trusted to word our advice.
    needed = _RELEASE.fullmatch(str(content.get("reader")))
    hint = (
        f"Install msr_async {needed[1]} or newer: pip install 'msr_async>={needed[1]}'."
        if needed
        else "Install a newer msr_async: pip install --upgrade msr_async."
    )
    return BackupTooNew(f"The backup {problem}.", hint=hint)


_README = f"""\
This is a backup of a database, made by msr_async (backup format {FORMAT_MAJOR}.{FORMAT_MINOR}).
It is a plain ZIP file of Zstandard files: unzip and zstd open it, msr_async is not needed.

  manifest.json.zst    what was backed up, when, and the SHA-256, size and rows of every piece
  schema/              what rebuilds the tables (PostgreSQL: SQL before the rows, SQL after them)
  data/PART/CHUNK.zst  the rows; PART counts the manifest's "parts" from 000000
                       (PostgreSQL: COPY text in UTF-8, loadable piece by piece;
                       Firestore: protobuf, each piece a google.firestore.v1.ListDocumentsResponse)

To bring a PostgreSQL database back by hand, in a shell, with TARGET set to the URL of an empty
one (the names after \\copy are those of the manifest's part; do the fourth line for each part):

  unzip -q BACKUP.msrbak -d opened && cd opened && export PGCLIENTENCODING=UTF8
  zstd -dc manifest.json.zst
  zstd -dc schema/pre-data.sql.zst | psql -v ON_ERROR_STOP=1 "$TARGET"
  find data/000000 -type f | sort | xargs cat | zstd -dc | psql "$TARGET" -c '\\copy TABLE (COLUMNS) from pstdin'
  zstd -dc schema/post-data.sql.zst | psql -v ON_ERROR_STOP=1 "$TARGET"

With msr_async:  msr-async backup restore BACKUP.msrbak
"""
