"""What is listed page by page: documents of a collection, ids of collections, cuts of a query."""

from __future__ import annotations

from typing import Any

from google.cloud.firestore_v1.types import firestore as types

from . import queries
from .refusing import invalid
from .store import Database, Document

LEAST_PARTITION = 128
"""Documents: a smaller query is not cut."""
MAX_PAGE = 300

_BY_NAME = {"": False, "__name__": False, "__name__ asc": False, "__name__ desc": True}


def documents(database: Database, above: str, request: Any, moment: int | None) -> Any:
    """The answer of `ListDocuments`, those of no collection in particular included."""
    if request.show_missing and (request.order_by or not request.collection_id):
        raise invalid("missing documents are shown of one collection and in no order of choice")
    if request.order_by not in _BY_NAME:
        raise invalid(f"the order {request.order_by!r} is not known here")
    found = _children(database, above, request.collection_id, moment)
    paths = [path for path, document in found.items() if document is not None or request.show_missing]
    if _BY_NAME[request.order_by]:
        paths.reverse()
    start = paths.index(request.page_token) if request.page_token in paths else 0
    size = min(request.page_size or 100, MAX_PAGE)
    answer = types.ListDocumentsResponse.pb()()
    for path in paths[start : start + size]:
        document = found[path]
        if document is None:
            answer.documents.append(Document(name=f"{database.root}/{path}"))
        else:
            wanted = list(request.mask.field_paths)
            answer.documents.append(queries.masked(document, wanted) if request.HasField("mask") else document)
    if start + size < len(paths):
        answer.next_page_token = paths[start + size]
    return answer


def _children(database: Database, above: str, collection: str, moment: int | None) -> dict[str, Any]:
    """The documents right beneath one; None for those that are missing and have something beneath them."""
    depth = len(above.split("/")) + 2 if above else 2
    found: dict[str, Any] = {}
    for path, document in database.all(moment):
        segments = path.split("/")
        if (above and not path.startswith(f"{above}/")) or (collection and segments[depth - 2] != collection):
            continue
        if len(segments) == depth:
            found[path] = document
        else:
            found.setdefault("/".join(segments[:depth]), None)
    return found


def collection_ids(database: Database, above: str, request: Any, moment: int | None) -> Any:
    """The answer of `ListCollectionIds`."""
    found = sorted(
        {
            path[len(above) + 1 if above else 0 :].split("/")[0]
            for path, _ in database.all(moment)
            if not above or path.startswith(f"{above}/")
        }
    )
    start = int(request.page_token or 0)
    size = request.page_size or 100
    answer = types.ListCollectionIdsResponse.pb()(collection_ids=found[start : start + size])
    if start + size < len(found):
        answer.next_page_token = str(start + size)
    return answer


def partitions(database: Database, request: Any, moment: int | None, *, kindless: bool) -> Any:
    """The answer of `PartitionQuery`; `kindless` allows queries of every collection at once."""
    query = request.structured_query
    orders = [(order.field.field_path, order.direction) for order in query.order_by]
    narrow = query.HasField("where") or query.HasField("limit") or query.offset
    if request.parent != database.root or len(query.from_) != 1 or not query.from_[0].all_descendants or narrow:
        raise invalid("a partition query is of all descendants of the root, without filters and limits")
    if query.HasField("start_at") or query.HasField("end_at") or orders not in ([], [("__name__", 1)]):
        raise invalid("a partition query is ordered by name, without cursors")
    if not query.from_[0].collection_id and not kindless:
        raise invalid("a partition query must specify a collection")
    if request.partition_count < 1:
        raise invalid("the number of partitions must be positive")
    names = [document.name for document in queries.run(database, request.parent, query, moment)]
    count = min(request.partition_count, len(names) // LEAST_PARTITION)
    cuts = [names[len(names) * place // (count + 1)] for place in range(1, count + 1)]
    cuts = cuts[::2] + cuts[1::2]  # pages of it are in no order
    start = int(request.page_token or 0)
    size = request.page_size or 3
    answer = types.PartitionQueryResponse.pb()()
    for name in cuts[start : start + size]:
        answer.partitions.add(before=True).values.add(reference_value=name)
    if start + size < len(cuts):
        answer.next_page_token = str(start + size)
    return answer
