"""Where the rows of a chunk end: a chunk holds lines, or messages of Protocol Buffers one after the other.

`lines`: a row ends in a newline and holds none inside. So do PostgreSQL's COPY text and JSON lines.

`messages`: a row is a field of type message with the number 1, as a `repeated` field stands on the wire: the byte 0x0A,
the length as a varint, the message. So a chunk, and several of them one after the other, is itself a message: that of
Firestore's documents is a `google.firestore.v1.ListDocumentsResponse`.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

Framing: TypeAlias = Literal["lines", "messages"]
Buffer: TypeAlias = bytes | bytearray | memoryview

ROW_END = b"\n"
MESSAGE = 0x0A
"""The tag of field 1 with a length in front of its bytes."""


def varint(data: Buffer, position: int) -> tuple[int, int]:
    """The number that starts here, and where it ends.

    Raises:
        IndexError: the data ends in the middle of it.
        ValueError: it is no number of at most 64 bits.
    """
    value = data[position]
    position += 1
    if value < 0x80:
        return value, position
    value &= 0x7F
    for shift in range(7, 70, 7):
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise ValueError("no varint")


def as_varint(number: int) -> bytes:
    """The bytes of a number that is not negative."""
    if number < 0x80:
        return bytes((number,))
    if number < 0x4000:  # most documents
        return bytes((number & 0x7F | 0x80, number >> 7))
    spelled = bytearray()
    while number >= 0x80:
        spelled.append(number & 0x7F | 0x80)
        number >>= 7
    spelled.append(number)
    return bytes(spelled)


class _Varints(dict[int, bytes]):
    """The bytes of numbers that came already: most messages are small, and `as_varint` takes four times as long."""

    def __missing__(self, number: int) -> bytes:
        spelled = as_varint(number)
        if number < 0x4000:  # so that there never are many
            self[number] = spelled
        return spelled


VARINTS = _Varints()


def framed(message: Buffer) -> bytes:
    """A message as a row of a chunk."""
    return b"\x0a" + VARINTS[len(message)] + message


def messages_end(data: Buffer, start: int, stop: int) -> tuple[int, int]:
    """Walk over whole messages.

    Returns:
        Where the last one ends that is whole before `stop`, and how many there were.

    Raises:
        ValueError: what stands there is no message.
    """
    end, count = start, 0
    while end < stop:
        if data[end] != MESSAGE:
            raise ValueError(f"no message begins at byte {end}")
        # The usual case by hand: most documents are between 128 bytes and 16 KiB, and this runs for each of them.
        try:
            low = data[end + 1]
            if low < 0x80:
                after = end + 2 + low
            else:
                high = data[end + 2]
                if high < 0x80:
                    after = end + 3 + (low & 0x7F | high << 7)
                else:
                    size, after = varint(data, end + 1)
                    after += size
        except IndexError:
            break
        except ValueError:
            if end + 11 > stop:  # what lies behind `stop` may be anything
                break
            raise
        if after > stop:
            break
        end = after
        count += 1
    return end, count


def rows_in(data: Buffer, framing: Framing) -> int:
    """How many rows a chunk holds.

    Raises:
        ValueError: it does not end with a row's end.
    """
    if framing == "messages":
        end, count = messages_end(data, 0, len(data))
        if end != len(data):
            raise ValueError("its last row has no end")
        return count
    data = bytes(data) if isinstance(data, memoryview) else data
    if not data.endswith(ROW_END):
        raise ValueError("its last row has no end")
    return data.count(ROW_END)
