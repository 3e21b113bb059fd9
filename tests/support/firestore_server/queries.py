"""What a structured query finds in a database."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from google.cloud.firestore_v1.types import query as types

from msr_async.firestore.names import OrderKey, order_key

from .store import Database, Document, Refused, invalid, split_path

Operator = types.StructuredQuery.FieldFilter.Operator
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


def run(database: Database, parent: str, query: Any, moment: int | None) -> Iterator[Any]:
    """The documents that it finds, in its order."""
    if not query.from_:
        raise invalid("a query has no collection")
    (source,) = query.from_
    above = parent[len(database.root) + 1 :]
    orders = [(order.field.field_path, order.direction == 2) for order in query.order_by]
    if any(down for path, down in orders if path == "__name__") and len(orders) == 1:
        raise Refused_precondition()
    by_field = [(path, down) for path, down in orders if path != "__name__"]
    start = _name_cursor(database, query.start_at) if not by_field else None
    found: Iterator[Any] = (
        (path, document)
        for path, document in database.all(moment, after=start)
        if _stands(path, above, source) and _matches(database, document, path, query)
    )
    if by_field:
        found = iter(_sorted(found, by_field))
        found = _within_values(found, query, by_field)
    else:
        found = _within_names(database, found, query)
    limit = query.limit.value if query.HasField("limit") else math.inf
    for number, (_, document) in enumerate(found):
        if number < query.offset:
            continue
        if number - query.offset >= limit:
            return
        yield projected(document, query)


def Refused_precondition() -> Refused:
    import grpc

    return Refused(grpc.StatusCode.FAILED_PRECONDITION, "descending key scans are not served")


def _stands(path: str, above: str, source: Any) -> bool:
    if above and not path.startswith(f"{above}/"):
        return False
    rest = path[len(above) + 1 :] if above else path
    segments = rest.split("/")
    if source.collection_id and segments[-2] != source.collection_id:
        return False
    return bool(source.all_descendants) or len(segments) == 2


def _name_cursor(database: Database, cursor: Any) -> OrderKey | None:
    if not cursor.values:
        return None
    return order_key(_cursor_path(database, cursor))


def _cursor_path(database: Database, cursor: Any) -> str:
    name = cursor.values[-1].reference_value
    if not name.startswith(f"{database.root}/"):
        raise invalid("a cursor is no name of this database")
    return str(name[len(database.root) + 1 :])


def _within_names(database: Database, found: Iterator[Any], query: Any) -> Iterator[Any]:
    start = _name_cursor(database, query.start_at)
    end = _name_cursor(database, query.end_at)
    for path, document in found:
        key = order_key(path)
        if start is not None and (key < start or (key == start and not query.start_at.before)):
            continue
        if end is not None and (key > end or (key == end and query.end_at.before)):
            return
        yield path, document


def _sorted(found: Iterator[Any], orders: list[tuple[str, bool]]) -> list[Any]:
    having = [
        (path, document) for path, document in found if all(_at(document, field) is not None for field, _ in orders)
    ]
    having.sort(key=lambda item: order_key(item[0]), reverse=orders[-1][1])
    for field, down in reversed(orders):
        having.sort(key=lambda item, field=field: _rank(_at(item[1], field)), reverse=down)  # type: ignore[misc]
    return having


def _within_values(found: Iterator[Any], query: Any, orders: list[tuple[str, bool]]) -> Iterator[Any]:
    (field, down) = orders[0]
    for path, document in found:
        rank = _rank(_at(document, field))
        if query.start_at.values:
            edge = _rank(query.start_at.values[0])
            beyond = rank > edge if down else rank < edge
            if beyond or (rank == edge and not query.start_at.before):
                continue
        if query.end_at.values:
            edge = _rank(query.end_at.values[0])
            beyond = rank < edge if down else rank > edge
            if beyond or (rank == edge and query.end_at.before):
                return
        yield path, document


def _matches(database: Database, document: Any, path: str, query: Any) -> bool:
    return not query.HasField("where") or _filtered(database, document, path, query.where)


def _filtered(database: Database, document: Any, path: str, where: Any) -> bool:
    match where.WhichOneof("filter_type"):
        case "composite_filter":
            each = [_filtered(database, document, path, item) for item in where.composite_filter.filters]
            return all(each) if where.composite_filter.op == 1 else any(each)
        case "field_filter":
            return _compared(database, document, path, where.field_filter)
        case "unary_filter":
            value = _at(document, where.unary_filter.field.field_path)
            return value is not None and value.WhichOneof("value_type") == "null_value"
        case other:
            raise invalid(f"the filter {other} is not known here")


def _compared(database: Database, document: Any, path: str, condition: Any) -> bool:
    if condition.field.field_path == "__name__":
        mine: Any = order_key(path)
        other: Any = order_key(condition.value.reference_value[len(database.root) + 1 :])
    else:
        value = _at(document, condition.field.field_path)
        if value is None:
            return False
        mine, other = _rank(value), _rank(condition.value)
        if mine[0] != other[0]:
            return bool(condition.op == Operator.NOT_EQUAL)
    match condition.op:
        case Operator.EQUAL:
            return bool(mine == other)
        case Operator.NOT_EQUAL:
            return bool(mine != other)
        case Operator.LESS_THAN:
            return bool(mine < other)
        case Operator.LESS_THAN_OR_EQUAL:
            return bool(mine <= other)
        case Operator.GREATER_THAN:
            return bool(mine > other)
        case Operator.GREATER_THAN_OR_EQUAL:
            return bool(mine >= other)
        case _:
            raise invalid(f"the operator {condition.op} is not known here")


def _at(document: Any, field: str) -> Any:
    fields, value = document.fields, None
    for key in split_path(field):
        if fields is None or key not in fields:
            return None
        value = fields[key]
        fields = value.map_value.fields if value.WhichOneof("value_type") == "map_value" else None
    return value


def _rank(value: Any) -> tuple[int, Any]:
    kind = value.WhichOneof("value_type")
    if kind in ("integer_value", "double_value"):
        number = getattr(value, kind)
        return _TYPES.index("number"), (-math.inf if number != number else number)
    if kind == "timestamp_value":
        return _TYPES.index(kind), value.timestamp_value.ToMicroseconds()
    if kind == "null_value":
        return 0, 0
    if kind in ("string_value", "bytes_value", "boolean_value", "reference_value"):
        return _TYPES.index(kind), getattr(value, kind)
    return _TYPES.index(kind), value.SerializeToString(deterministic=True)


def projected(document: Any, query: Any) -> Any:
    """The document with the fields that the query wants."""
    wanted = [field.field_path for field in query.select.fields]
    if not wanted:
        return document
    small = Document(name=document.name)
    small.create_time.CopyFrom(document.create_time)
    small.update_time.CopyFrom(document.update_time)
    for field in wanted:
        if field != "__name__" and (value := _at(document, field)) is not None:
            small.fields[split_path(field)[0]].CopyFrom(value)
    return small
