"""How the server says no."""

from __future__ import annotations

import grpc


class Refused(Exception):
    """A status that the client is told."""

    def __init__(self, code: grpc.StatusCode, words: str) -> None:
        self.code = code
        self.words = words
        super().__init__(words)


def invalid(words: str) -> Refused:
    return Refused(grpc.StatusCode.INVALID_ARGUMENT, words)
