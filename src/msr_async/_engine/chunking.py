"""Pieces of any size in, chunks that end at row ends out."""

from __future__ import annotations

from collections.abc import Iterator

from ..framing import ROW_END, Framing, messages_end, varint

_SLACK = 256 * 1024
"""Room behind a chunk's end for the piece that reaches over it, so that a buffer rarely grows."""


class Chunk:
    """The first `size` bytes of a buffer that belongs to the holder until it is given back."""

    __slots__ = ("buffer", "framing", "size")

    def __init__(self, buffer: bytearray, size: int, framing: Framing = "lines") -> None:
        self.buffer = buffer
        self.size = size
        self.framing = framing

    @property
    def ended(self) -> bool:
        """False when it stops in the middle of a row."""
        if self.framing == "messages":
            return messages_end(self.buffer, 0, self.size)[0] == self.size
        return self.buffer[self.size - 1 : self.size] == ROW_END

    def view(self) -> memoryview:
        """Its bytes without a copy; release it before the chunk is given back."""
        with memoryview(self.buffer) as whole:
            return whole[: self.size]

    def rows(self) -> int:
        if self.framing == "messages":
            return messages_end(self.buffer, 0, self.size)[1]
        return self.buffer.count(ROW_END, 0, self.size)


_LONGEST_HEAD = 11
"""Bytes in front of a message: its tag, and a length of at most 64 bits."""


class Cutter:
    """Collects pieces and cuts at the last row end within `size` bytes; a larger row becomes a chunk of its own.

    Buffers are made once and come back through `give_back`: growing a new `bytearray` for each chunk took 1 ms for
    2 MiB, ten times as long as the copying, and left the memory in pieces.
    """

    def __init__(self, size: int, framing: Framing = "lines") -> None:
        self.framing: Framing = framing
        """Of the part that is being cut; changed between two parts only."""
        self._size = size
        self._capacity = size + min(size, _SLACK)
        self._spare: list[bytearray] = []
        self._buffer = bytearray(self._capacity)
        self._filled = 0
        self._searched = 0
        """Bytes at the buffer's start that were looked at: lines, they hold no row end; messages, they are whole."""

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
        if self.framing == "messages":
            return self._cut_messages()
        if self._searched < self._size:
            cut = self._buffer.rfind(ROW_END, self._searched, self._size) + 1
            if cut:
                return cut
            self._searched = self._size
        cut = self._buffer.find(ROW_END, self._searched, self._filled) + 1
        if not cut:
            self._searched = self._filled
        return cut

    def _cut_messages(self) -> int:
        self._searched, _ = messages_end(self._buffer, self._searched, min(self._size, self._filled))
        if self._searched:
            return self._searched
        try:
            length, start = varint(self._buffer, 1)
        except (IndexError, ValueError):
            if self._filled < _LONGEST_HEAD:
                return 0  # a chunk may be so small that not even the length of its first row is there
            raise
        return start + length if start + length <= self._filled else 0

    def _split(self, cut: int) -> Chunk:
        chunk, filled = Chunk(self._buffer, cut, self.framing), self._filled
        self._buffer = self._spare.pop() if self._spare else bytearray(self._capacity)
        self._filled = self._searched = 0
        with memoryview(chunk.buffer) as view, view[cut:filled] as rest:
            self._append(rest)
        return chunk
