"""Firestore keeps what the protocols promise: on Google's emulator, and on the server of our own."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from msr_async.testing.contracts import BookContract, LockContract, MarkedRestoreContract, RunContract, World
from tests.support.firestore import FirestoreTarget
from tests.support.firestore_world import firestore_world


class OnFirestore:
    @pytest.fixture(autouse=True)
    def _target(self, firestore_target: FirestoreTarget) -> None:
        self.target = firestore_target

    def world(self) -> AbstractAsyncContextManager[World[Any]]:
        return firestore_world(self.target.address)


class TestFirestoreUnits(OnFirestore, RunContract[Any]):
    pass


class TestFirestoreBook(OnFirestore, BookContract[Any]):
    pass


class TestFirestoreLock(OnFirestore, LockContract[Any]):
    pass


class TestFirestoreBackup(OnFirestore, MarkedRestoreContract[Any]):
    least_parts = 1
