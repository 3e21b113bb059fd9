"""Where a document stands: paths, their order in the database, and the ranges and patterns that choose among them.

A path here is relative to the database's root: `users/alice/orders/7`. Nothing here talks to a database.
"""

from __future__ import annotations

import fnmatch
import functools
import itertools
import operator
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

from msgspec import Struct

from ..errors import ConfigError
from ..models import Selection

MIN_ID = "__id-9223372036854775808__"
"""The id that comes before every other one: numeric ids come first, by their number."""
LOCK_COLLECTION = "schema_version_lock"
"""Holds the lock and the mark of a restore under way; never a part of a backup."""

_MOST_ID_BYTES = 1500
_GREATEST_NUMBER = 2**63 - 1
_NUMERIC = re.compile(r"__id(-?\d+)__", re.ASCII)
OrderKey: TypeAlias = tuple[tuple[int, int, str], ...]


class Home(Struct, frozen=True, kw_only=True):
    """The project and the database that documents live in."""

    project: str
    database: str

    @property
    def path(self) -> str:
        return f"projects/{self.project}/databases/{self.database}"

    @property
    def root(self) -> str:
        """What all names of documents begin with, without the last slash."""
        return f"{self.path}/documents"

    def name(self, path: str) -> str:
        return f"{self.root}/{path}"

    def path_of(self, name: str) -> str:
        """Raises:
        ValueError: the document lives somewhere else.
        """
        if not name.startswith(f"{self.root}/"):
            raise ValueError(f"{name} is not in {self.path}")
        return name[len(self.root) + 1 :]


def order_key(path: str) -> OrderKey:
    """Compares as the database orders documents by `__name__`: a parent before its children, numeric ids first."""
    return tuple(_segment_key(segment) for segment in path.split("/"))


def _segment_key(segment: str) -> tuple[int, int, str]:
    numeric = _NUMERIC.fullmatch(segment) if segment.startswith("__id") else None
    return (0, int(numeric[1]), "") if numeric else (1, 0, segment)


def in_order(paths: Sequence[str]) -> bool:
    """Whether these paths stand in the database's order, none of them twice."""
    # As texts, where nothing sorts before what divides the segments, and no id is a number: a tenth of the time.
    every = "".join(paths)
    plain = "\0" not in every and "__id" not in every
    keys: list[Any] = [path.replace("/", "\0") if plain else order_key(path) for path in paths]
    return all(map(operator.lt, keys, itertools.islice(keys, 1, None)))


def collection_id(path: str) -> str:
    """The collection that a document stands in, without what is above it: `users/alice/orders/7` gives `orders`."""
    return path.rsplit("/", 2)[-2]


class KeyRange(Struct, frozen=True, kw_only=True):
    """Documents from `start` on and before `end`, in the database's order; empty means without end on that side."""

    start: str = ""
    end: str = ""

    def __contains__(self, path: str) -> bool:
        key = order_key(path)
        return (not self.start or order_key(self.start) <= key) and (not self.end or key < order_key(self.end))

    def cut(self, paths: Iterable[str]) -> list[KeyRange]:
        """This range in pieces that begin at those of the paths that lie inside of it."""
        inside = sorted({path for path in paths if path in self and path != self.start}, key=order_key)
        edges = [self.start, *inside, self.end]
        return [KeyRange(start=start, end=end) for start, end in itertools.pairwise(edges)]


EVERYTHING = KeyRange()


def under(path: str) -> KeyRange:
    """A document with all that is beneath it, or a collection with all of its documents and what is beneath them."""
    return KeyRange(start=path if path.count("/") % 2 else f"{path}/{MIN_ID}", end=_end_of(path))


def _end_of(path: str) -> str:
    """The first place behind a path and all that is beneath it; empty when no name can come there."""
    above, _, id = path.rpartition("/")
    document = path.count("/") % 2
    following = _id_after(id) if document else _text_after(id)
    if not following:
        return _end_of(above) if above else ""
    place = f"{above}/{following}" if above else following
    return place if document else f"{place}/{MIN_ID}"


def _id_after(id: str) -> str:
    """The first id that may follow it in the database's order. `__id0__` is none, and after the numbers come texts."""
    numeric = _NUMERIC.fullmatch(id)
    if numeric is None:
        return _text_after(id)
    following = int(numeric[1]) + 1 or 1
    return f"__id{following}__" if following <= _GREATEST_NUMBER else "\0"


def _text_after(id: str) -> str:
    """The first id that is no number and may follow it; empty when none may.

    A server may refuse a cursor at what cannot be an id. So one that is as long as they get is not followed by itself
    and one sign more, but by what is greater in the last place that can grow: nothing that is an id stands in between.
    """
    if _bytes(id) < _MOST_ID_BYTES:
        return f"{id}\0"
    for length in range(len(id), 0, -1):
        following = id[: length - 1] + _sign_after(id[length - 1])
        if len(following) == length and _bytes(following) <= _MOST_ID_BYTES:
            return _text_after(following) if _reserved(following) else following
    return ""


def _sign_after(sign: str) -> str:
    """The next one of Unicode that may stand in an id; empty after the last one."""
    following = ord(sign) + 1
    if following == ord("/"):
        return "0"
    if following == 0xD800:
        return "\ue000"  # what is in between are no signs but halves of UTF-16
    return chr(following) if following <= sys.maxunicode else ""


def _reserved(id: str) -> bool:
    return id in (".", "..") or (id.startswith("__") and id.endswith("__"))


def _bytes(id: str) -> int:
    return len(id.encode("utf-8", "surrogatepass"))


class Scope(Struct, frozen=True, kw_only=True):
    """What a selection means: which ranges to read, and which of their documents to take."""

    ranges: tuple[KeyRange, ...]
    includes: tuple[str, ...] = ()
    """Patterns that the ranges are wider than; empty when all that is in the ranges is meant."""
    excludes: tuple[str, ...] = ()
    whole: bool = False
    """Everything of the database's user is in it."""

    def holds(self) -> Callable[[str], bool] | None:
        """Whether a path inside of the ranges is meant; None when all of them are, so that nobody has to ask."""
        if not self.includes and not self.excludes:
            return None
        included, excluded = _matcher(self.includes), _matcher(self.excludes)

        def holds(path: str) -> bool:
            segments = path.split("/")
            return (not self.includes or included(segments)) and not excluded(segments)

        return holds


def scope_of(selection: Selection, *, internal: Sequence[str] = (LOCK_COLLECTION,)) -> Scope:
    """What to read for a selection, without the library's own `internal` collections.

    A pattern names a collection or a document and means it with everything beneath it. Each of its segments may hold
    `*`, `?` and `[...]`: `users`, `users/alice`, `users/*/orders`, `shop_*`.

    Raises:
        ConfigError: a pattern is no path.
    """
    for pattern in (*selection.include, *selection.exclude):
        if not all(pattern.split("/")):
            raise ConfigError(
                f"{pattern!r} is no path of a collection or a document.",
                hint="Write it as users, users/alice or users/*/orders.",
            )
    wide = _joined([_literal_range(pattern) for pattern in selection.include]) or [EVERYTHING]
    plain = [pattern for pattern in selection.exclude if not _wild(pattern)]
    ranges = _without(wide, [under(path) for path in (*internal, *plain)])
    inexact = any(_wild(pattern) for pattern in selection.include)
    return Scope(
        ranges=tuple(ranges),
        includes=selection.include if inexact else (),
        excludes=tuple(pattern for pattern in selection.exclude if _wild(pattern)),
        whole=not selection.include and not selection.exclude,
    )


def bridged(ranges: Sequence[KeyRange]) -> list[KeyRange]:
    """The same ranges, but one where only the library's own documents stand between two: each query has its price.

    Whoever reads them leaves those documents out himself (`is_internal`).
    """
    hole = under(LOCK_COLLECTION)
    joined: list[KeyRange] = []
    for item in ranges:
        if joined and joined[-1].end == hole.start and item.start == hole.end:
            joined[-1] = KeyRange(start=joined[-1].start, end=item.end)
        else:
            joined.append(item)
    return joined


class Unseen:
    """The patterns of a selection that have not met a document yet.

    Args:
        plain: those without signs that none is beneath: their ranges were counted.
    """

    def __init__(self, selection: Selection, plain: Sequence[str]) -> None:
        self._order = (*selection.include, *selection.exclude)
        self._plain = set(plain)
        self._wild = {pattern: _matcher((pattern,)) for pattern in self._order if _wild(pattern)}

    @property
    def wild(self) -> bool:
        """Whether the documents are to be seen at all."""
        return bool(self._wild)

    @property
    def patterns(self) -> tuple[str, ...]:
        return tuple(pattern for pattern in self._order if pattern in self._plain or pattern in self._wild)

    def see(self, paths: Sequence[str]) -> None:
        """Documents that were read."""
        for pattern, matches in list(self._wild.items()):
            if any(matches(path.split("/")) for path in paths):
                del self._wild[pattern]


def plain_patterns(selection: Selection) -> list[str]:
    """Those that name one collection or one document."""
    return [pattern for pattern in (*selection.include, *selection.exclude) if not _wild(pattern)]


def is_internal(path: str) -> bool:
    """Whether a document is the library's own: no backup holds it."""
    return path.startswith(f"{LOCK_COLLECTION}/")


def _wild(text: str) -> bool:
    return any(sign in text for sign in "*?[")


def _literal_range(pattern: str) -> KeyRange:
    """The smallest range that we can name with all that a pattern may match in it."""
    literal: list[str] = []
    for segment in pattern.split("/"):
        if _wild(segment):
            break
        literal.append(segment)
    return under("/".join(literal)) if literal else EVERYTHING


def _joined(ranges: Sequence[KeyRange]) -> list[KeyRange]:
    """The same documents in ranges that do not overlap, in order."""
    joined: list[KeyRange] = []
    for item in sorted(ranges, key=_start_key):
        last = joined[-1] if joined else None
        if last is None or (last.end and item.start and order_key(last.end) <= order_key(item.start)):
            joined.append(item)
        elif last.end and (not item.end or order_key(item.end) > order_key(last.end)):
            joined[-1] = KeyRange(start=last.start, end=item.end)
    return joined


def _without(ranges: Sequence[KeyRange], holes: Sequence[KeyRange]) -> list[KeyRange]:
    """What is left when holes with a start are taken out."""
    left = list(ranges)
    for hole in _joined(holes):
        left = [piece for item in left for piece in _around(item, hole)]
    return left


def _around(item: KeyRange, hole: KeyRange) -> list[KeyRange]:
    start, end = order_key(hole.start), order_key(hole.end)
    if (item.end and order_key(item.end) <= start) or (hole.end and item.start and end <= order_key(item.start)):
        return [item]
    pieces: list[KeyRange] = []
    if not item.start or order_key(item.start) < start:
        pieces.append(KeyRange(start=item.start, end=hole.start))
    if hole.end and (not item.end or end < order_key(item.end)):
        pieces.append(KeyRange(start=hole.end, end=item.end))
    return pieces


def _start_key(item: KeyRange) -> OrderKey:
    return order_key(item.start) if item.start else ()


def _matcher(patterns: Sequence[str]) -> Callable[[Sequence[str]], bool]:
    wanted = [[re.compile(fnmatch.translate(segment)) for segment in pattern.split("/")] for pattern in patterns]

    @functools.lru_cache(maxsize=1024)
    def one(index: int, place: int, segment: str) -> bool:
        return wanted[index][place].match(segment) is not None

    def matches(segments: Sequence[str]) -> bool:
        return any(
            len(pattern) <= len(segments) and all(one(index, place, segments[place]) for place in range(len(pattern)))
            for index, pattern in enumerate(wanted)
        )

    return matches
