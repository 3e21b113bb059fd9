"""What is said of patterns that mean nothing."""

from __future__ import annotations

import pytest

from msr_async import BackupFailed
from msr_async._engine.selecting import check_selection
from msr_async.models import Selection, SnapshotDetails

NAMES = ("audit.log", "public.customers", "public.orders")


def details(*unmatched: str, names: tuple[str, ...] = NAMES) -> SnapshotDetails:
    return SnapshotDetails(documents={}, fingerprint="", complete=False, history=(), unmatched=unmatched, names=names)


def test_patterns_that_mean_something_are_not_spoken_of() -> None:
    assert check_selection(Selection(include=("public.*",), exclude=("audit.*",)), details()) == ()
    assert check_selection(Selection(), details(names=())) == ()


@pytest.mark.parametrize(
    ("pattern", "hint"),
    [
        ("orders", "Did you mean public.orders?"),
        ("public.order", "Did you mean public.orders?"),
        ("pubic.customers", "Did you mean public.customers"),
        ("zzz", "There are: audit.log, public.customers, public.orders."),
    ],
)
def test_an_include_that_leaves_nothing_is_refused_with_what_is_near(pattern: str, hint: str) -> None:
    with pytest.raises(BackupFailed, match=pattern) as raised:
        check_selection(Selection(include=(pattern,)), details(pattern))
    assert raised.value.hint.startswith(hint)


def test_one_of_several_is_a_warning_and_so_is_every_exclude() -> None:
    selection = Selection(include=("public.*", "order"), exclude=("nowhere.*",))
    assert check_selection(selection, details("order", "nowhere.*")) == (
        "include order means nothing that is in the database. Did you mean public.orders?",
        "exclude nowhere.* means nothing that is in the database. "
        "There are: audit.log, public.customers, public.orders.",
    )


def test_an_empty_database_is_said_to_be_one() -> None:
    with pytest.raises(BackupFailed, match="It is empty"):
        check_selection(Selection(include=("a",)), details("a", names=()))


def test_of_many_names_a_few_are_shown() -> None:
    many = tuple(f"public.t{number}" for number in range(9))
    with pytest.raises(BackupFailed, match=r"public\.t0, public\.t1, public\.t2, public\.t3, public\.t4 \.\.\."):
        check_selection(Selection(include=("zz",)), details("zz", names=many))
