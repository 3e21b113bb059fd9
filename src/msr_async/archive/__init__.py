"""The backup file: what its bytes mean, decided without any I/O. `docs/file-format.md` gives the layout byte by byte.

Its words:

- A *backup file* is a ZIP file that only ever grew at its end. Its *members* are the files in it.
- A *chunk* is a member with some rows of one part, cut at row ends, as one zstd frame.
- A *document* is a member with something that is not rows, such as the SQL that makes the tables.
- The *manifest* is the last member and lists all the others with their hashes; a file without it is not a backup.
- *Raw* sizes count what the database gave, plain sizes what stands in the file.
- *Canonical*: there is one spelling of everything around the members' contents. A reader makes it again and compares,
  so that not one bit can change without being seen.

`layout` names the members, `codecs` compresses and hashes them, `records` spells ZIP, `writer` and `reader` are the two
directions, `manifest` is the account that a backup gives of itself.
"""

from __future__ import annotations

from .codecs import compress, crc, declared_size, decompress, digest
from .layout import (
    FORMAT_MAJOR,
    FORMAT_MEMBER,
    FORMAT_MINOR,
    MANIFEST_MEMBER,
    README_MEMBER,
    check_format,
    check_member_name,
    chunk_member,
    document_member,
    format_json,
    readme_text,
)
from .manifest import decode_manifest, encode_manifest, pack_manifest, totals, unpack_manifest
from .reader import ArchiveIndex, check_against_manifest, check_member, read_index
from .records import Member
from .writer import ArchiveWriter

__all__ = [
    "FORMAT_MAJOR",
    "FORMAT_MEMBER",
    "FORMAT_MINOR",
    "MANIFEST_MEMBER",
    "README_MEMBER",
    "ArchiveIndex",
    "ArchiveWriter",
    "Member",
    "check_against_manifest",
    "check_format",
    "check_member",
    "check_member_name",
    "chunk_member",
    "compress",
    "crc",
    "declared_size",
    "decode_manifest",
    "decompress",
    "digest",
    "document_member",
    "encode_manifest",
    "format_json",
    "pack_manifest",
    "read_index",
    "readme_text",
    "totals",
    "unpack_manifest",
]
