"""One channel to one database: the native client for people's code, and raw bytes for data that only passes through."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import grpc
import grpc.aio
import grpc.experimental
from google.auth.credentials import AnonymousCredentials, Credentials
from google.cloud.firestore import AsyncClient
from google.cloud.firestore_v1.services.firestore import FirestoreAsyncClient
from google.cloud.firestore_v1.services.firestore.transports import (
    FirestoreGrpcAsyncIOTransport,
    FirestoreGrpcTransport,
)

from ..errors import ConfigError
from .names import Home

SERVICE = "/google.firestore.v1.Firestore/"
PRODUCTION_HOST = "firestore.googleapis.com"

_OPTIONS: Sequence[tuple[str, Any]] = (
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.keepalive_time_ms", 30_000),
    # What a stream may have on the way is fixed, where it would grow as the stream goes on: 1 MiB a round trip and
    # stream.
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", 1024 * 1024),
)


class Clients:
    """Open from its making to `close()`; made inside the event loop that uses it.

    Args:
        emulator: `host:port` of an emulator, which takes no credentials.
    """

    def __init__(self, home: Home, *, credentials: Credentials | None = None, emulator: str | None = None) -> None:
        self.home = home
        self.host = emulator or PRODUCTION_HOST
        self.emulated = emulator is not None
        self.reached = False
        """Something was heard of the database already."""
        if emulator is not None:
            credentials = AnonymousCredentials()  # type: ignore[no-untyped-call]
        self._credentials = credentials
        self.channel = self._opened()
        # The native client puts an interceptor into its channel that would write our documents into a debug log, and
        # costs each call. Channels to one address share their connection.
        self._raw = self._opened()
        self._blocking: grpc.Channel | None = None
        self.native = AsyncClient(project=home.project, credentials=credentials, database=home.database)
        # The client makes a channel of its own otherwise, and takes the emulator's address from the environment only.
        api = FirestoreAsyncClient(transport=FirestoreGrpcAsyncIOTransport(channel=self.channel))
        self.native._firestore_api_internal = api
        if self.native._firestore_api is not api:  # a later version may keep it elsewhere, and would go to production
            raise ConfigError(
                "This version of google-cloud-firestore does not take the connection that it is given.",
                hint="Install one that msr_async is tested with: google-cloud-firestore 2.34.",
            )
        # It looks at the environment otherwise, and would say to production that it is the emulator's owner.
        owner = (("authorization", "Bearer owner"),) if self.emulated else ()
        self.native._rpc_metadata_internal = [("google-cloud-resource-prefix", home.path), *owner]
        self.metadata = (
            ("google-cloud-resource-prefix", home.path),
            ("x-goog-request-params", f"project_id={home.project}&database_id={home.database}"),
            *owner,
        )

    def _opened(self) -> grpc.aio.Channel:
        if self.emulated:
            return grpc.aio.insecure_channel(self.host, options=_OPTIONS)
        channel: grpc.aio.Channel = FirestoreGrpcAsyncIOTransport.create_channel(
            credentials=self._credentials, options=_OPTIONS
        )
        return channel

    @property
    def refused(self) -> bool:
        """Nobody takes connections at the emulator's address, and nobody ever did: asking again is of no use."""
        failing = grpc.ChannelConnectivity.TRANSIENT_FAILURE
        seen = [channel.get_state() for channel in (self.channel, self._raw)]
        return self.emulated and not self.reached and failing in seen

    def unary(self, method: str) -> Any:
        """`Commit`, `BatchWrite`, ...: takes the request's bytes and answers the response's, as bytes.

        Call it with `metadata=self.metadata` and `timeout=` in seconds; it raises `grpc.aio.AioRpcError`.
        """
        return self._raw.unary_unary(SERVICE + method, request_serializer=None, response_deserializer=None)

    def stream(self, method: str) -> Any:
        """`RunQuery`, ...: the same, with many responses."""
        return self._raw.unary_stream(SERVICE + method, request_serializer=None, response_deserializer=None)

    def blocking_stream(self, method: str) -> Any:
        """The same for worker threads: iterating over what it gives blocks. It raises `grpc.RpcError`.

        A message costs 9 us of CPU there, and 40 us in an event loop, where it is handed from thread to thread.
        """
        if self._blocking is None:
            options = [*_OPTIONS, (grpc.experimental.ChannelOptions.SingleThreadedUnaryStream, 1)]
            if self.emulated:
                self._blocking = grpc.insecure_channel(self.host, options=options)
            else:
                self._blocking = FirestoreGrpcTransport.create_channel(credentials=self._credentials, options=options)
        return self._blocking.unary_stream(SERVICE + method, request_serializer=None, response_deserializer=None)

    async def close(self) -> None:
        await self.channel.close()
        await self._raw.close()
        if self._blocking is not None:
            self._blocking.close()
