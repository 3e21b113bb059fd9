"""Which server a database URL of Firestore goes to, beside a variable that names an emulator."""

from __future__ import annotations

from pathlib import Path

import pytest

from msr_async.cli.addressing import address
from msr_async.cli.opening import handler_for
from msr_async.cli.options import Shared
from msr_async.firestore import FirestoreHandler

SHOP = "Firestore shop-1/(default)"


@pytest.fixture
def environ(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", "h:1")
    return {"FIRESTORE_EMULATOR_HOST": "h:1"}


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("firestore://shop-1", f"{SHOP} in the emulator at h:1"),
        ("firestore://shop-1?emulator=g:2", f"{SHOP} in the emulator at g:2"),
        ("firestore://shop-1?credentials=/k.json", SHOP),
        ("firestore://shop-1?credentials=/keys/emulator=.json", SHOP),
        ("firestore://shop-1?%65mulator=g:2", f"{SHOP} in the emulator at g:2"),
    ],
)
def test_a_url_goes_where_it_says_and_else_to_the_emulator_of_the_variable(
    environ: dict[str, str], monkeypatch: pytest.MonkeyPatch, url: str, name: str
) -> None:
    meant = address(Shared(database_url=url, emulator="h:1"), environ)
    assert handler_for(meant, environment=None).name == name
    monkeypatch.setenv("MSR_DATABASE_URL", url)
    assert FirestoreHandler.from_env().name == name


def test_credentials_of_a_flag_mean_google_too(environ: dict[str, str]) -> None:
    shared = Shared(database_url="firestore://shop-1", credentials=Path("/k.json"), emulator="h:1")
    assert handler_for(address(shared, environ), environment=None).name == SHOP
