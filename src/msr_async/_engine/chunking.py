"""Pieces of any size in, chunks that end at row ends out.

A row ends in a newline and holds none inside: so do PostgreSQL's COPY text and JSON lines.
"""

from __future__ import annotations

from collections.abc import Iterator

ROW_END = b"\n"
_SLACK = 256 * 1024
"""Room behind a chunk's end for the piece that reaches over it, so that a buffer rarely grows."""


class Chunk:
    """The first `size` bytes of a buffer that belongs to the holder until it is given back."""

    __slots__ = ("buffer", "size")

    def __init__(self, buffer: bytearray, size: int) -> None:
        self.buffer = buffer
        self.size = size

    @property
    def ended(self) -> bool:
        """False when it stops in the middle of a row."""
        return self.buffer[self.size - 1 : self.size] == ROW_END

    def view(self) -> memoryview:
        """Its bytes without a copy; release it before the chunk is given back."""
        with memoryview(self.buffer) as whole:
            return whole[: self.size]

    def rows(self) -> int:
        return self.buffer.count(ROW_END, 0, self.size)


class Cutter:
    """Collects pieces and cuts at the last row end within `size` bytes; a larger row becomes a chunk of its own.

    Buffers are made once and come back through `give_back`: growing a new `bytearray` for each chunk took 1 ms for
    2 MiB, ten times as long as the copying, and left the memory in pieces.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._capacity = size + min(size, _SLACK)
        self._spare: list[bytearray] = []
        self._buffer = bytearray(self._capacity)
        self._filled = 0
        self._searched = 0
        """Bytes at the buffer's start that are known to hold no row end."""

    def __repr__(self) -> str:
        return f"<Cutter {self._filled} of {self._size} bytes>"

    def feed(self, piece: bytes) -> Iterator[Chunk]:
        """Take a piece in and give the chunks that are full now."""
        self._append(piece)
        while self._filled >= self._size and (cut := self._cut()):
            yield self._split(cut)

    def finish(self) -> Chunk | None:
        """What is left, and be ready for another part."""
        return self._split(self._filled) if self._filled else None

    def give_back(self, chunk: Chunk) -> None:
        """Use a chunk's buffer again; one that a huge row blew up is let go."""
        if len(chunk.buffer) <= 2 * self._capacity:
            self._spare.append(chunk.buffer)
        chunk.buffer, chunk.size = bytearray(), 0

    def _append(self, piece: bytes | memoryview) -> None:
        end = self._filled + len(piece)
        if end <= len(self._buffer):
            # Through a view: a bytearray copies a slice's new value before it takes it over.
            with memoryview(self._buffer) as view:
                view[self._filled : end] = piece
        else:
            del self._buffer[self._filled :]
            self._buffer += piece
        self._filled = end

    def _cut(self) -> int:
        """Where to cut: behind the last row end that fits, else behind the first one there is, else nowhere yet (0)."""
        if self._searched < self._size:
            cut = self._buffer.rfind(ROW_END, self._searched, self._size) + 1
            if cut:
                return cut
            self._searched = self._size
        cut = self._buffer.find(ROW_END, self._searched, self._filled) + 1
        if not cut:
            self._searched = self._filled
        return cut

    def _split(self, cut: int) -> Chunk:
        chunk, filled = Chunk(self._buffer, cut), self._filled
        self._buffer = self._spare.pop() if self._spare else bytearray(self._capacity)
        self._filled = self._searched = 0
        with memoryview(chunk.buffer) as view, view[cut:filled] as rest:
            self._append(rest)
        return chunk
