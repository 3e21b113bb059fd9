"""What backups are called."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

from msr_async._engine.naming import backup_name, new_token
from msr_async.config import BackupConfig

NOW = datetime(2026, 8, 1, 9, 30, 5, tzinfo=UTC)


def test_the_default_name_has_prefix_time_and_token() -> None:
    assert backup_name(BackupConfig(), now=NOW, token="0a1b2c3d") == "backup-20260801T093005Z-0a1b2c3d.msrbak"


def test_custom_text_and_suffix_have_their_places() -> None:
    config = BackupConfig(prefix="shop", custom="before-v7", suffix="nightly", extension="bak")
    assert backup_name(config, now=NOW, token="t") == "shop-before-v7-20260801T093005Z-t-nightly.bak"


def test_pieces_that_are_empty_or_off_leave_no_dash() -> None:
    config = BackupConfig(prefix="", timestamp=False)
    assert backup_name(config, now=NOW, token="0a1b2c3d") == "0a1b2c3d.msrbak"


def test_a_local_time_is_written_in_utc() -> None:
    local = NOW.astimezone(timezone(timedelta(hours=5, minutes=30)))
    assert backup_name(BackupConfig(), now=local, token="t") == "backup-20260801T093005Z-t.msrbak"


def test_names_sort_by_time() -> None:
    times = [NOW + timedelta(seconds=step) for step in (0, 1, 60, 3600, 86400, 40 * 86400)]
    names = [backup_name(BackupConfig(), now=time, token=new_token()) for time in times]
    assert names == sorted(names)


def test_two_backups_of_one_second_have_different_names() -> None:
    names = {backup_name(BackupConfig(), now=NOW, token=new_token()) for _ in range(200)}
    assert len(names) == 200
