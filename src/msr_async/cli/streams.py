"""The standard streams as the command line wants them: a full disk or a closed stream is no accident."""

from __future__ import annotations

import io
import os
import sys
from typing import Any, TextIO


class OutputFailed(OSError):
    """Standard output cannot be written. Its own class, so that it is not taken for what a command worked on."""


class _Output(io.FileIO):
    def write(self, data: Any, /) -> int | None:  # type: ignore[override]
        try:
            return super().write(data)
        except OSError as error:
            raise OutputFailed(error.errno, error.strerror) from error


class _Messages(io.FileIO):
    """Standard error. What nobody can be told is lost: no run may fail, or go on in doubt, because of a message."""

    def write(self, data: Any, /) -> int | None:  # type: ignore[override]
        try:
            return super().write(data)
        except OSError:
            return memoryview(data).nbytes


def prepare() -> None:
    """Put ours in the place of Python's own.

    A stream that was closed gets one that leads nowhere: else the next connection would take its number, and with it
    what other programs write there.
    """
    if sys.stdin is None and os.open(os.devnull, os.O_RDONLY) == 0:
        sys.stdin = os.fdopen(0)
    if sys.stdout is None:
        os.open(os.devnull, os.O_RDONLY)  # a write to it fails, as one to a closed stream does
    if sys.stdout is sys.__stdout__:
        sys.stdout = _text(_Output(1, "w", closefd=False), sys.stdout)
    if sys.stderr is None:
        os.open(os.devnull, os.O_WRONLY)
    if sys.stderr is sys.__stderr__:
        sys.stderr = _text(_Messages(2, "w", closefd=False), sys.stderr, messages=True)


def let_go() -> None:
    """Nothing can be written any more, and Python must not try again at its exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _text(raw: io.FileIO, like: TextIO | None, *, messages: bool = False) -> TextIO:
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=like.encoding if like is not None else "utf-8",
        errors="backslashreplace" if messages or like is None else like.errors,
        line_buffering=messages or raw.isatty(),
    )
