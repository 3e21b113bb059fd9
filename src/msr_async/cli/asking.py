"""Asks a person on the terminal before something is done that cannot be taken back."""

from __future__ import annotations

import sys

import anyio

from ..errors import MsrError


class Declined(MsrError):
    """The person said no."""


def can_ask() -> bool:
    """Whether somebody is there to be asked, and sees the question."""
    return sys.stdin.isatty() and sys.stderr.isatty()


async def agree(question: str, *, otherwise: str) -> None:
    """Ask, and come back when the answer is yes; anything else means no.

    Args:
        otherwise: the sentence for a no.

    Raises:
        Declined: when the answer is not yes.
    """
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    # not input() in a thread: Ctrl-C would have to wait for the answer
    await anyio.wait_readable(sys.stdin)
    answer = sys.stdin.readline()
    if not answer.endswith("\n"):  # the end of the input, on the question's line
        print(file=sys.stderr)
    if answer.strip().lower() not in ("y", "yes"):
        raise Declined(otherwise)
