"""What a structured query finds in a database."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import grpc
from google.cloud.firestore_v1.types import query as types

from msr_async.firestore.names import OrderKey, order_key

from .fields import at, put, split_path
from .refusing import Refused, invalid
from .store import Database, Document

Operator = types.StructuredQuery.FieldFilter.Operator
Unary = types.StructuredQuery.UnaryFilter.Operator
NAME = "__name__"

_TYPES = [
    "null_value",
    "boolean_value",
    "number",
    "timestamp_value",
    "string_value",
    "bytes_value",
    "reference_value",
    "geo_point_value",
    "array_value",
    "map_value",
]
_NULL = (0, 0)
_COMPARISONS: dict[Any, Callable[[Any, Any], bool]] = {
    Operator.LESS_THAN: lambda mine, other: bool(mine < other),
    Operator.LESS_THAN_OR_EQUAL: lambda mine, other: bool(mine <= other),
    Operator.GREATER_THAN: lambda mine, other: bool(mine > other),
    Operator.GREATER_THAN_OR_EQUAL: lambda mine, other: bool(mine >= other),
    Operator.EQUAL: lambda mine, other: bool(mine == other),
    Operator.NOT_EQUAL: lambda mine, other: bool(mine != other),
}


class _Cursor:
    """A place in the order of a query, before or after the documents that stand at it."""

    def __init__(self, database: Database, cursor: Any, orders: list[tuple[str, bool]], explicit: int) -> None:
        if len(cursor.values) > explicit:
            raise invalid("the cursor has more values than the query has orders")
        self.before = bool(cursor.before)
        self.values: list[Any] = [
            _name_of(database, value) if field == NAME else _rank(value)
            for value, (field, _) in zip(cursor.values, orders, strict=False)
        ]
        self._downs = [down for _, down in orders]

    def side(self, position: list[Any]) -> int:
        """-1 for a document that comes before it, 1 for one after it."""
        for mine, other, down in zip(position, self.values, self._downs, strict=False):
            if mine != other:
                return 1 if (mine > other) != down else -1
        return 1 if self.before else -1


def run(database: Database, parent: str, query: Any, moment: int | None) -> Iterator[Any]:
    """The documents that it finds, in its order."""
    above = parent[len(database.root) + 1 :]
    source = query.from_[0] if query.from_ else types.StructuredQuery.CollectionSelector.pb()()
    orders = _orders(query)
    start = _Cursor(database, query.start_at, orders, len(query.order_by))
    end = _Cursor(database, query.end_at, orders, len(query.order_by))
    by_name = orders == [(NAME, False)]
    matching = (
        (_position(path, document, orders), document)
        for path, document in database.all(moment, after=start.values[0] if by_name and start.values else None)
        if _stands(path, above, source) and _matches(database, path, document, query)
    )
    found = matching if by_name else iter(_sorted(matching, orders))
    if start.values:
        found = (item for item in found if start.side(item[0]) > 0)
    if end.values:
        found = itertools.takewhile(lambda item: end.side(item[0]) < 0, found)
    limit = query.limit.value if query.HasField("limit") else None
    for _, document in itertools.islice(found, query.offset, None if limit is None else query.offset + limit):
        yield projected(document, query)


def _orders(query: Any) -> list[tuple[str, bool]]:
    """Each field with whether it goes down; the name is the last one, as Firestore adds it."""
    orders = [(order.field.field_path, order.direction == 2) for order in query.order_by]
    if any(field == NAME for field, _ in orders[:-1]):
        raise invalid("nothing can be ordered after the name")
    if not orders:
        orders = [(field, False) for field in sorted(_unequal(query.where)) if field != NAME]
    if not orders or orders[-1][0] != NAME:
        orders.append((NAME, bool(orders) and orders[-1][1]))
    return orders


def _unequal(where: Any) -> set[str]:
    """The fields that are compared otherwise than for equality; a query is ordered by them."""
    if where.WhichOneof("filter_type") == "composite_filter":
        return set().union(*(_unequal(item) for item in where.composite_filter.filters))
    compared = where.field_filter
    return {compared.field.field_path} if compared.op not in (0, Operator.EQUAL) else set()


def _position(path: str, document: Any, orders: list[tuple[str, bool]]) -> list[Any]:
    """What a document is ordered by; None where it has no such field."""
    return [order_key(path) if field == NAME else _field_rank(document, field) for field, _ in orders]


def _sorted(found: Iterator[tuple[list[Any], Any]], orders: list[tuple[str, bool]]) -> list[tuple[list[Any], Any]]:
    having = [item for item in found if None not in item[0]]
    for place, (_, down) in reversed(list(enumerate(orders))):
        having.sort(key=functools.partial(_nth, place), reverse=down)
    return having


def _nth(place: int, item: tuple[list[Any], Any]) -> Any:
    return item[0][place]


def _stands(path: str, above: str, source: Any) -> bool:
    if above and not path.startswith(f"{above}/"):
        return False
    segments = path[len(above) + 1 if above else 0 :].split("/")
    if source.collection_id and segments[-2] != source.collection_id:
        return False
    return bool(source.all_descendants) or len(segments) == 2


def _name_of(database: Database, value: Any) -> OrderKey:
    return order_key(database.path_of(value.reference_value))


def _matches(database: Database, path: str, document: Any, query: Any) -> bool:
    return not query.HasField("where") or _filtered(database, path, document, query.where)


def _filtered(database: Database, path: str, document: Any, where: Any) -> bool:
    match where.WhichOneof("filter_type"):
        case "composite_filter":
            each = [_filtered(database, path, document, item) for item in where.composite_filter.filters]
            return all(each) if where.composite_filter.op == 1 else any(each)
        case "field_filter":
            return _compared(database, path, document, where.field_filter)
        case "unary_filter" if where.unary_filter.op == Unary.IS_NULL:
            return _field_rank(document, where.unary_filter.field.field_path) == _NULL
        case other:
            raise Refused(grpc.StatusCode.UNIMPLEMENTED, f"the filter {other} is not known here")


def _compared(database: Database, path: str, document: Any, condition: Any) -> bool:
    compare = _COMPARISONS.get(condition.op)
    if compare is None:
        raise Refused(grpc.StatusCode.UNIMPLEMENTED, f"the operator {condition.op} is not known here")
    if condition.field.field_path == NAME:
        return compare(order_key(path), _name_of(database, condition.value))
    mine, other = _field_rank(document, condition.field.field_path), _rank(condition.value)
    if condition.op == Operator.NOT_EQUAL:
        return mine is not None and mine != other and mine != _NULL
    return mine is not None and mine[0] == other[0] and compare(mine, other)


def _field_rank(document: Any, field: str) -> tuple[int, Any] | None:
    value = at(document.fields, split_path(field))
    return None if value is None else _rank(value)


def _rank(value: Any) -> tuple[int, Any]:
    kind = value.WhichOneof("value_type")
    match kind:
        case "null_value":
            return _NULL
        case "integer_value" | "double_value":
            number = getattr(value, kind)
            return _TYPES.index("number"), (-math.inf if number != number else number)
        case "timestamp_value":
            return _TYPES.index(kind), value.timestamp_value.ToMicroseconds()
        case "string_value" | "bytes_value" | "boolean_value" | "reference_value":
            return _TYPES.index(kind), getattr(value, kind)
        case _:
            return _TYPES.index(kind), value.SerializeToString(deterministic=True)


def projected(document: Any, query: Any) -> Any:
    """The document with the fields that the query wants."""
    wanted = [field.field_path for field in query.select.fields]
    return masked(document, wanted) if wanted else document


def masked(document: Any, wanted: list[str]) -> Any:
    """The document with these fields only."""
    small = Document(name=document.name, create_time=document.create_time, update_time=document.update_time)
    for path in wanted:
        if path != NAME and (value := at(document.fields, split_path(path))) is not None:
            put(small.fields, split_path(path), value)
    return small
