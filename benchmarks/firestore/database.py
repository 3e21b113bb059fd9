"""A server's databases from outside, by gRPC and nothing of ours: fill one, say what is in it, empty it."""

from __future__ import annotations

import hashlib
import urllib.request
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

import grpc
from google.cloud.firestore_v1.types import document as document_types
from google.cloud.firestore_v1.types import firestore as types
from google.cloud.firestore_v1.types import query as query_types

from ..measuring import CommandFailed
from .data import documents

_Document: Any = document_types.Document.pb()
_Value: Any = document_types.Value.pb()
_BatchWrite: Any = types.BatchWriteRequest.pb()
_BatchWritten: Any = types.BatchWriteResponse.pb()
_RunQuery: Any = types.RunQueryRequest.pb()
_Answer: Any = types.RunQueryResponse.pb()
_ASCENDING: Any = query_types.StructuredQuery.Direction.ASCENDING

_SERVICE = "/google.firestore.v1.Firestore/"
_OPTIONS = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))
_BATCH = 500
_IN_FLIGHT = 4
_DEADLINE = 600.0
_INTERNAL = "schema_version"
"""What the names of the library's own collections begin with: its lock may leave its heartbeat behind."""


@dataclass(frozen=True)
class State:
    """What a database holds: equal when two hold the same documents with the same content."""

    documents: int
    digest: str


def root_of(project: str) -> str:
    return f"projects/{project}/databases/(default)/documents"


def fill(address: str, project: str, count: int) -> None:
    """Write the first `count` documents of `data`.

    Raises:
        CommandFailed: when the server did not take one of them.
    """
    with _channel(address) as channel:
        call = channel.unary_unary(
            f"{_SERVICE}BatchWrite",
            request_serializer=_BatchWrite.SerializeToString,
            response_deserializer=_BatchWritten.FromString,
        )
        waiting: deque[Any] = deque()
        for request in _requests(project, count):
            waiting.append(call.future(request, metadata=_metadata(project), timeout=_DEADLINE))
            if len(waiting) == _IN_FLIGHT:
                _check(waiting.popleft().result())
        for answer in waiting:
            _check(answer.result())


def state_of(address: str, project: str) -> State:
    """All documents of a project's database, hashed in the order of their names, the fields of maps sorted."""
    root = f"{root_of(project)}/"
    hashed, count = hashlib.sha256(), 0
    with _channel(address) as channel:
        call = channel.unary_stream(
            f"{_SERVICE}RunQuery",
            request_serializer=_RunQuery.SerializeToString,
            response_deserializer=_Answer.FromString,
        )
        for answer in call(_everything(project), metadata=_metadata(project), timeout=_DEADLINE):
            path = answer.document.name.removeprefix(root)
            if not answer.HasField("document") or path.startswith(_INTERNAL):
                continue
            count += 1
            content = _Document(name=path, fields=answer.document.fields)
            hashed.update(content.SerializeToString(deterministic=True))
    return State(count, hashed.hexdigest())


def empty(address: str, project: str) -> None:
    """Take everything out of a project of Google's emulator, which keeps it in memory as what was there before."""
    _asked("DELETE", f"http://{address}/emulator/v1/{root_of(project)}")


def reset(address: str) -> None:
    """Let Google's emulator forget all projects, and give their memory back; it stays as warm as it is."""
    _asked("POST", f"http://{address}/reset")


def _asked(method: str, where: str) -> None:
    urllib.request.urlopen(urllib.request.Request(where, method=method), timeout=_DEADLINE).close()


def messages(project: str, count: int) -> Iterator[Any]:
    """The first `count` documents of `data` as a project holds them, without their times."""
    root = root_of(project)
    for path, fields in documents(count):
        message = _Document(name=f"{root}/{path}")
        _put(message.fields, fields)
        yield message


def _requests(project: str, count: int) -> Iterator[Any]:
    every = messages(project, count)
    while some := list(islice(every, _BATCH)):
        writes = [{"update": message} for message in some]
        yield _BatchWrite(database=root_of(project).removesuffix("/documents"), writes=writes)


def _put(target: Any, fields: Mapping[str, Any]) -> None:
    for name, value in fields.items():
        target[name].CopyFrom(_value(value))


def _value(value: Any) -> Any:
    match value:
        case None:
            return _Value(null_value=0)
        case bool():
            return _Value(boolean_value=value)
        case int():
            return _Value(integer_value=value)
        case float():
            return _Value(double_value=value)
        case str():
            return _Value(string_value=value)
        case list():
            return _Value(array_value={"values": [_value(item) for item in value]})
        case _:
            return _Value(map_value={"fields": {name: _value(item) for name, item in value.items()}})


def _everything(project: str) -> Any:
    query = {
        "from_": [{"all_descendants": True}],
        "order_by": [{"field": {"field_path": "__name__"}, "direction": _ASCENDING}],
    }
    return _RunQuery(parent=root_of(project), structured_query=query)


def _check(answer: Any) -> None:
    if failed := next((status for status in answer.status if status.code), None):
        raise CommandFailed(f"the server did not take a document: {failed.message}")


def _channel(address: str) -> grpc.Channel:
    return grpc.insecure_channel(address, options=_OPTIONS)


def _metadata(project: str) -> tuple[tuple[str, str], ...]:
    database = root_of(project).removesuffix("/documents")
    return (("google-cloud-resource-prefix", database), ("authorization", "Bearer owner"))
