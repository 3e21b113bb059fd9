"""References that follow their documents: what points into the backup's database points into the target's."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from google.cloud.firestore_v1.types import document as types

from .names import Home

_Document: Any = types.Document.pb()  # the class of protobuf's own messages, a tenth of the wrapper's cost


def redirecting(source: Home, target: Home) -> Callable[[list[bytes]], list[bytes]]:
    """A function from documents' contents to the same with their references redirected; the names are left alone.

    References into other databases stay as they are, and so do texts that look like one.
    """
    needle = f"{source.root}/".encode()
    old, new = f"{source.root}/", f"{target.root}/"

    def redirect(contents: list[bytes]) -> list[bytes]:
        if needle not in b"".join(contents):  # most have none, and one look is faster than a look at each
            return contents
        return [one(content) if needle in content else content for content in contents]

    def one(content: bytes) -> bytes:
        document = _Document.FromString(content)
        if not _walk(document.fields.values(), old, new):
            return content
        spelled: bytes = document.SerializeToString()
        return spelled

    return redirect


def _walk(values: Iterable[Any], old: str, new: str) -> bool:
    """Redirect what is in these values and beneath them; whether there was anything."""
    changed = False
    for value in values:
        kind = value.WhichOneof("value_type")
        if kind == "reference_value":
            if value.reference_value.startswith(old):
                value.reference_value = new + value.reference_value[len(old) :]
                changed = True
        elif kind == "map_value":
            changed |= _walk(value.map_value.fields.values(), old, new)
        elif kind == "array_value":
            changed |= _walk(value.array_value.values, old, new)
    return changed
