"""A server that is far away: a TCP proxy that hands everything on a little later, and counts the round trips."""

from __future__ import annotations

import asyncio
import contextlib
import selectors
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

_NEGOTIATIONS = (b"\x00\x00\x00\x08\x04\xd2\x16\x2f", b"\x00\x00\x00\x08\x04\xd2\x16\x30")
"""A client's questions whether TLS or GSS encryption is offered; the answer is one byte."""
_READY = ord("Z")
_PIECE = 2**16


@dataclass
class Traffic:
    """What went through the proxy: connections, and after each one's hello the questions that got an answer."""

    connections: int = 0
    round_trips: int = 0


@dataclass
class _Hello:
    """Follows the beginning of a connection until the server says that it is ready for the first query."""

    over: bool = False
    _asked: int = 0
    _answers: bytearray = field(default_factory=bytearray)

    def sent(self, data: bytes) -> None:
        self._asked += data in _NEGOTIATIONS

    def received(self, data: bytes) -> None:
        self._answers += data
        while self._asked and self._answers:
            del self._answers[0]
            self._asked -= 1
        # a message is its kind, its length without the kind, and its content
        while not self.over and len(self._answers) >= 5:
            size = 1 + int.from_bytes(self._answers[1:5], "big")
            if len(self._answers) < size:
                return
            self.over = self._answers[0] == _READY
            del self._answers[:size]


class DelayingProxy:
    """A proxy on a loopback port of its own, in a thread of its own, for as long as the block lasts.

    Args:
        port: of the server, on the loopback address.
        delay: seconds that everything is on its way, each way.
    """

    host = "127.0.0.1"

    def __init__(self, port: int, *, delay: float) -> None:
        self._server_port = port
        self._delay = delay
        self.port = 0
        self.traffic = Traffic()

    def count_anew(self) -> None:
        self.traffic = Traffic()

    @contextlib.contextmanager
    def running(self) -> Iterator[DelayingProxy]:
        started = threading.Event()
        thread = threading.Thread(target=self._run, args=[started], name="delaying proxy")
        thread.start()
        started.wait()
        try:
            yield self
        finally:
            self._loop.call_soon_threadsafe(self._ended.set)
            thread.join()

    def _run(self, started: threading.Event) -> None:
        # epoll rounds a pause up to whole milliseconds, which would make 2.5 of them 3
        with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selectors.SelectSelector())) as runner:
            try:
                runner.run(self._serve(started))
            finally:
                started.set()

    async def _serve(self, started: threading.Event) -> None:
        self._loop = asyncio.get_running_loop()
        self._ended = asyncio.Event()
        server = await asyncio.start_server(self._carry, self.host, 0)
        self.port = server.sockets[0].getsockname()[1]
        started.set()
        await self._ended.wait()
        server.close()

    async def _carry(self, client_reader: asyncio.StreamReader, client_writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_connection(self.host, self._server_port)
        for writer in (client_writer, server_writer):
            writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.traffic.connections += 1
        hello, unanswered = _Hello(), False

        def question(data: bytes) -> None:
            nonlocal unanswered
            if hello.over:
                unanswered = True
            else:
                hello.sent(data)

        def answer(data: bytes) -> None:
            nonlocal unanswered
            if not hello.over:
                hello.received(data)
            elif unanswered:
                unanswered = False
                self.traffic.round_trips += 1

        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._one_way(client_reader, server_writer, question))
                both.create_task(self._one_way(server_reader, client_writer, answer))
        finally:
            for writer in (client_writer, server_writer):
                writer.close()
                with contextlib.suppress(ConnectionError):
                    await writer.wait_closed()

    async def _one_way(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, heard: Callable[[bytes], None]
    ) -> None:
        loop = asyncio.get_running_loop()
        on_the_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

        async def take() -> None:
            data = b"?"
            while data:
                try:
                    data = await reader.read(_PIECE)
                except ConnectionError:
                    data = b""
                if data:
                    heard(data)
                on_the_way.put_nowait((loop.time() + self._delay, data))

        async def give() -> None:
            with contextlib.suppress(ConnectionError):
                while True:
                    due, data = await on_the_way.get()
                    await asyncio.sleep(due - loop.time())
                    if not data:
                        break
                    writer.write(data)
                    await writer.drain()
            writer.close()

        async with asyncio.TaskGroup() as both:
            both.create_task(take())
            both.create_task(give())
