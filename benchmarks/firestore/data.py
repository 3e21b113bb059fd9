"""A shop's documents over three levels, about 300 bytes each on the wire, and the same on every run.

All values are such as JSON has, so that the plain way's file can hold them without any tagging.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from typing import Any, TypeAlias

Fields: TypeAlias = dict[str, Any]

COLLECTIONS = ("shops", "orders", "lines")
"""One in the other: `shops/<id>/orders/<id>/lines/<id>`."""

_ORDERS, _LINES = 10, 9
_WORDS: list[str] = re.findall(
    r"\w+",
    """
amber anchor april arrow autumn basket beacon birch bottle branch bridge bronze butter candle canvas carbon
castle cedar cherry circle cloud copper corner cotton crystal desert dragon eagle ember falcon feather fern forest
garden glacier golden granite harbor harvest hazel island ivory jasmine juniper lantern lemon linen marble
""",
)


def documents(count: int) -> Iterator[tuple[str, Fields]]:
    """The first `count` documents with their paths, parents before children."""
    chance = random.Random(20261123)
    for number, path in enumerate(_paths()):
        if number == count:
            return
        yield path, _fields(chance, number)


def _paths() -> Iterator[str]:
    shop = 0
    while True:
        at_shop = f"shops/{shop:05}"
        yield at_shop
        for order in range(_ORDERS):
            at_order = f"{at_shop}/orders/{shop * _ORDERS + order:06}"
            yield at_order
            for line in range(_LINES):
                yield f"{at_order}/lines/{line:02}"
        shop += 1


def _fields(chance: random.Random, number: int) -> Fields:
    word = chance.choice
    return {
        "title": f"{word(_WORDS)} {word(_WORDS)}",
        "code": f"{chance.getrandbits(32):08x}",
        "quantity": chance.randrange(1, 1000),
        "price": chance.randrange(100, 100_000) / 100,
        "paid": chance.random() < 0.8,
        "note": f"{word(_WORDS)} {word(_WORDS)}" if number % 3 else None,
        "placed": f"2026-{chance.randrange(1, 13):02}-{chance.randrange(1, 29):02}",
        "tags": [word(_WORDS), word(_WORDS)],
        "address": {"street": f"{word(_WORDS)} {number % 90 + 1}", "zip": f"{chance.randrange(10_000, 99_999)}"},
    }
