"""Six runners at once on an empty database: nobody fails, and each migration runs once.

`MSR_FAULT_ROUNDS` says how often; 2 when it is not set.
"""

from __future__ import annotations

import os

import pytest

from tests.faults.facts import effects, history, numbers, versions
from tests.support.processes import Runners
from tests.support.servers import Database, only_newest

pytestmark = only_newest

ROUNDS = int(os.environ.get("MSR_FAULT_ROUNDS", "2"))
RUNNERS = 6


@pytest.mark.parametrize("attempt", range(ROUNDS))
@pytest.mark.parametrize("count", [1, 100])
def test_behaviour_35_six_runners_at_once_all_end_well_and_each_migration_runs_once(
    runners: Runners, database: Database, url: str, count: int, attempt: int
) -> None:
    for number, version in enumerate(versions(count), 1):
        # a second run of the first would not fail by itself, so it would be seen below
        table = "CREATE TABLE IF NOT EXISTS effects (migration int);\n" if number == 1 else ""
        runners.write(
            f"V{version}_step.up.sql",
            f"{table}INSERT INTO effects VALUES ({number});\nCREATE TABLE t_{number} (id int);",
        )
    together = [runners.migrate(url) for _ in range(RUNNERS)]
    codes = [runner.end() for runner in together]
    assert codes == [0] * RUNNERS, "\n\n".join(runner.said for runner in together)
    assert history(database) == numbers(*versions(count))
    assert effects(database) == numbers(*range(1, count + 1))
