"""What a person may write for a version."""

from __future__ import annotations

from pathlib import Path

import pytest

from msr_async.cli.options import Shared, UsageError
from msr_async.cli.targets import target_of


@pytest.fixture
def shared(tmp_path: Path) -> Shared:
    for name in ("V202601010900_paid.up.sql", "V202601010900_paid.down.sql", "V20260102090005_more.py"):
        (tmp_path / name).write_text("async def up(db, ctx): ..." if name.endswith(".py") else "SELECT 1;")
    return Shared(migrations=tmp_path)


@pytest.mark.parametrize(
    ("written", "version"),
    [
        ("0", 0),
        ("202601010900", 202601010900),
        ("V202601010900", 202601010900),
        ("V202601010900_paid", 202601010900),
        ("202601010900_paid", 202601010900),
        ("V202601010900_paid.down.sql", 202601010900),
        ("V20260102090005_more.py", 20260102090005),
        ("V202511010900_whose_file_is_gone", 202511010900),
    ],
)
async def test_digits_or_the_whole_name_are_a_version(shared: Shared, written: str, version: int) -> None:
    assert await target_of(written, shared) == version


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("0_paid", "'0_paid' is not a migration. Give 0 alone"),
        ("V202601010900_more", "the one of this version is V202601010900_paid. Give 202601010900"),
        ("202601010900_", "the one of this version is V202601010900_paid"),
        ("V202601010900_pai", "the one of this version is V202601010900_paid"),
        ("paid", "'paid' is not a version"),
        ("V0", "'V0' is not a version"),
    ],
)
async def test_a_name_that_is_not_that_versions_is_refused(shared: Shared, written: str, words: str) -> None:
    with pytest.raises(UsageError) as raised:
        await target_of(written, shared)
    assert words in str(raised.value)
