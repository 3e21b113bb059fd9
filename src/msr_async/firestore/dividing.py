"""Which ranges to read side by side. Any sorted list of names is a right list of cuts; a good one makes even ranges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

import grpc

from ..errors import DatabaseError
from . import reading, weighing
from .clients import Clients
from .names import KeyRange, order_key

LEAST = 20_000
"""Documents in a range, about: less is read by one stream in a few seconds."""
MOST = 64
MOST_EMULATED = 1
"""An emulator walks over all documents for each query: 100,000 came later through 2 or 4 streams than through one."""


async def ranges(
    clients: Clients,
    whole: Sequence[KeyRange],
    sizes: Sequence[int] | None,
    *,
    read_time: datetime,
    least: int = LEAST,
    most: int = MOST,
    limits: reading.Limits = reading.LIMITS,
) -> list[KeyRange]:
    """The same ranges, in order and without gaps, cut where they are large.

    Args:
        sizes: documents in each of them; None: too many to be counted.
        least: documents in a piece, about.
        most: pieces, about.
    """
    wanted = most if sizes is None else min(most, sum(sizes) // least)
    if wanted <= 1:
        return list(whole)
    try:
        cuts = await _partitions(clients, whole, sizes, least, read_time=read_time, limits=limits)
    except DatabaseError as error:
        if reading.code_of(error) is not grpc.StatusCode.UNIMPLEMENTED:
            raise
        named = await _counted_off(clients, whole, sizes or (), wanted, read_time=read_time, limits=limits)
        cuts = dict.fromkeys(named, 1.0)
    chosen = thinned(cuts, wanted - 1)
    return [piece for item in whole for piece in item.cut(chosen)]


def thinned(cuts: Mapping[str, float], wanted: int) -> list[str]:
    """At most that many of them, so chosen that as much stands between two as between any others.

    Args:
        cuts: in the order of the database, each with what stands between it and the one before.
    """
    if len(cuts) <= wanted:
        return list(cuts)
    passed = sum(cuts.values())
    total = passed + passed / len(cuts)  # behind the last one stands something, too
    chosen: list[str] = []
    passed, place = 0.0, 1
    for path, weight in cuts.items():
        passed += weight
        if passed * (wanted + 1) >= place * total:
            chosen.append(path)
            place = int(passed * (wanted + 1) / total) + 1
    return chosen


async def _partitions(
    clients: Clients,
    whole: Sequence[KeyRange],
    sizes: Sequence[int] | None,
    least: int,
    *,
    read_time: datetime,
    limits: reading.Limits,
) -> dict[str, float]:
    """Where the server would cut: evenly among all documents, or by collections where it wants to be told one."""
    found = await weighing.partitions(clients, "", read_time=read_time, limits=limits)
    if found is not None:
        inside = [path for path in found if any(path in item for item in whole)]
        cuts = dict.fromkeys(inside, 1.0)
    else:
        total = None if sizes is None else sum(sizes)
        cuts = await weighing.weights(clients, whole, total, enough=least, read_time=read_time, limits=limits)
    return {path: cuts[path] for path in sorted(cuts, key=order_key)}


async def _counted_off(
    clients: Clients,
    whole: Sequence[KeyRange],
    sizes: Sequence[int],
    wanted: int,
    *,
    read_time: datetime,
    limits: reading.Limits,
) -> list[str]:
    """Every n-th name, for an emulator; of a real server, all that is passed over has its price."""
    total = sum(sizes)
    places = iter([total * number // wanted for number in range(1, wanted)])
    place = next(places, total)
    cuts: list[str] = []
    passed = 0
    for item, size in zip(whole, sizes, strict=False):
        while place < passed + size:
            name = await reading.name_at(clients, item, place - passed, read_time=read_time, limits=limits)
            if name is not None:
                cuts.append(clients.home.path_of(name))
            place = next(places, total)
        passed += size
    return cuts
