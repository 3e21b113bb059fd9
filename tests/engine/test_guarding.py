"""Which targets may be overwritten, and what must be said for the others."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from msr_async import DatabaseInfo, TargetRefused
from msr_async._engine.guarding import guard_target

SOURCE = DatabaseInfo(
    kind="memory",
    name="shop",
    host="live.example",
    identity="a",
    server_version="1",
    environment="production",
    empty=False,
)
OTHER = replace(SOURCE, name="copy", host="dev.example", identity="b", environment=None)


@pytest.mark.parametrize(
    "target",
    [
        SOURCE,
        replace(OTHER, empty=True),
        replace(OTHER, empty=True, environment="production"),
        replace(OTHER, environment="development"),
        replace(OTHER, environment="Staging"),
        replace(OTHER, environment="ci"),
    ],
    ids=["the same database", "empty", "empty production", "development", "in capitals", "ci"],
)
def test_a_harmless_target_passes_without_a_word(target: DatabaseInfo) -> None:
    guard_target(SOURCE, target, None)


def test_a_clone_at_another_address_is_not_the_same_database() -> None:
    with pytest.raises(TargetRefused, match="production"):
        guard_target(SOURCE, replace(SOURCE, host="clone.example"), None)


@pytest.mark.parametrize(
    "environment", [None, "", "production", "Production", "prod", "prodction", "live", "PRD", "eu-1"]
)
def test_any_other_target_is_refused_with_the_name_to_give(environment: str | None) -> None:
    with pytest.raises(TargetRefused, match=r'confirm_target="copy@dev\.example"'):
        guard_target(SOURCE, replace(OTHER, environment=environment), None)


def test_the_refusal_says_the_label_and_which_ones_pass() -> None:
    with pytest.raises(TargetRefused, match=r"is labelled 'prod', which is not one of development, dev, .*staging"):
        guard_target(SOURCE, replace(OTHER, environment="prod"), None)


@pytest.mark.parametrize("environment", [None, "production", "prod"])
def test_the_right_name_opens_it(environment: str | None) -> None:
    guard_target(SOURCE, replace(OTHER, environment=environment), "copy@dev.example")


@pytest.mark.parametrize("target", [OTHER, SOURCE, replace(OTHER, empty=True)])
def test_the_wrong_name_is_refused_even_where_none_was_needed(target: DatabaseInfo) -> None:
    with pytest.raises(TargetRefused, match=target.label):
        guard_target(SOURCE, target, "copy")


def test_another_hint_can_be_given() -> None:
    with pytest.raises(TargetRefused, match="Use your own"):
        guard_target(SOURCE, OTHER, None, hint="Use your own.")
