"""What happens between the start of an app and its first request, without a server."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from fastapi import FastAPI
from starlette.applications import Starlette

from msr_async import (
    BackupMode,
    Config,
    ConfigError,
    ConnectionFailed,
    LockNotAcquired,
    MigrationFailed,
    RollbackStrategy,
    ScriptFailed,
    ValidationFailed,
)
from msr_async.events import LockWaiting, MigrationStarted
from msr_async.fastapi import MigrationsPending, StartStopped, migrations_lifespan, server_is_stopping
from msr_async.postgres import PostgresHandler
from msr_async.testing import MemoryHandler
from tests.fastapi.shop import FAIL, HANG, Shop, serving
from tests.support.servers import Database, only_newest

SECRET = "hunter2-canary"


# -- migrating -------------------------------------------------------------------------------------


async def test_what_is_pending_is_run_and_the_handler_closed_before_the_app_begins(shop: Shop) -> None:
    @asynccontextmanager
    async def own(app: FastAPI) -> AsyncIterator[None]:
        shop.story.append(f"own begins with {shop.versions}")
        yield
        shop.story.append("own ends")

    async with serving(FastAPI(lifespan=shop.lifespan(lifespan=own))):
        shop.story.append("serving")
    assert shop.story == ["opened", "closed", "own begins with [1]", "serving", "own ends"]


async def test_a_second_start_runs_nothing(shop: Shop) -> None:
    app = FastAPI(lifespan=shop.lifespan())
    for _ in range(2):
        async with serving(app):
            assert shop.versions == [1]
    assert shop.heard_of(MigrationStarted) == 1


@pytest.mark.parametrize("app_class", [FastAPI, Starlette])
async def test_the_state_of_the_apps_own_lifespan_is_passed_on(shop: Shop, app_class: Any) -> None:
    @asynccontextmanager
    async def own(app: Any) -> AsyncIterator[dict[str, str]]:
        yield {"pool": "the pool"}

    app = app_class(lifespan=shop.lifespan(lifespan=own))
    async with app.router.lifespan_context(app) as state:
        assert dict(state) == {"pool": "the pool"}


async def test_an_own_lifespan_may_be_an_async_generator_function(shop: Shop) -> None:
    async def own(app: FastAPI) -> AsyncIterator[dict[str, int]]:
        shop.story.append("own begins")
        yield {"one": 1}
        shop.story.append("own ends")

    app = FastAPI(lifespan=shop.lifespan(lifespan=own))
    async with app.router.lifespan_context(app) as state:
        assert state == {"one": 1}
    assert shop.story[-2:] == ["own begins", "own ends"]


async def test_without_an_own_lifespan_there_is_no_state_so_that_every_server_can_run_it(shop: Shop) -> None:
    app = FastAPI(lifespan=shop.lifespan())
    async with app.router.lifespan_context(app) as state:
        assert state is None


async def test_the_app_finds_what_was_run_and_nothing_after_its_end(shop: Shop) -> None:
    app = FastAPI(lifespan=shop.lifespan())
    async with serving(app):
        started = app.state.msr_async
        assert [migration.name for migration in started.result.executed] == ["step1"]
        assert started.handler is None
        assert repr(started) == "<Started, 1 migrated, handler closed>"
    assert not hasattr(app.state, "msr_async")


async def test_a_kept_handler_is_open_while_the_app_serves_and_closed_after_its_own_lifespan(shop: Shop) -> None:
    @asynccontextmanager
    async def own(app: FastAPI) -> AsyncIterator[None]:
        yield
        shop.story.append("own ends")

    app = FastAPI(lifespan=shop.lifespan(lifespan=own, keep_handler=True))
    async with serving(app):
        assert len(await app.state.msr_async.handler.schema_version.applied()) == 1
    assert shop.story == ["opened", "own ends", "closed"]


async def test_several_starts_at_once_migrate_once(shop: Shop) -> None:
    shop.add(2, "import anyio; await anyio.sleep(0.2)", 'await db.put("shop", "b", 2)')
    async with anyio.create_task_group() as tasks:
        for _ in range(4):
            tasks.start_soon(enter, FastAPI(lifespan=shop.lifespan()))
    assert shop.versions == [1, 2]
    assert shop.heard_of(MigrationStarted) == 2
    assert shop.heard_of(LockWaiting) >= 3


async def enter(app: FastAPI) -> None:
    async with serving(app):
        pass


# -- checking --------------------------------------------------------------------------------------


async def test_a_check_names_what_is_pending_and_runs_nothing(shop: Shop) -> None:
    shop.add(2)
    with pytest.raises(MigrationsPending) as caught:
        await enter(FastAPI(lifespan=shop.lifespan(on_pending="check")))
    assert str(caught.value) == (
        "2 migrations are pending, so the app does not start: V202601010001_step1, V202601010002_step2. "
        "Run `msr-async migrate` before it starts, or let the app do it with on_pending='migrate'."
    )
    assert [migration.name for migration in caught.value.pending] == ["step1", "step2"]
    assert shop.database.tables == {}
    assert shop.story == ["opened", "closed"]


async def test_a_check_names_ten_and_counts_the_rest(shop: Shop) -> None:
    for number in range(2, 14):
        shop.add(number)
    with pytest.raises(MigrationsPending, match=r"^13 migrations are .*_step10 and 3 more\. Run"):
        await enter(FastAPI(lifespan=shop.lifespan(on_pending="check")))


async def test_a_check_passes_when_nothing_is_pending(shop: Shop) -> None:
    await enter(FastAPI(lifespan=shop.lifespan()))
    app = FastAPI(lifespan=shop.lifespan(on_pending="check"))
    async with serving(app):
        assert app.state.msr_async.result is None
        assert repr(app.state.msr_async) == "<Started, checked, handler closed>"


@pytest.mark.parametrize("on_pending", ["migrate", "check"])
async def test_migrations_that_must_not_run_stop_the_start(shop: Shop, on_pending: str) -> None:
    (shop.folder / "migrations" / "V202601010001_again.py").write_text("async def up(db, ctx):\n    pass\n")
    with pytest.raises(ValidationFailed, match="duplicate"):
        await enter(FastAPI(lifespan=shop.lifespan(on_pending=on_pending)))
    assert shop.database.tables == {}


# -- failing ---------------------------------------------------------------------------------------


async def test_a_failed_migration_is_put_back_and_told_as_it_is(shop: Shop) -> None:
    shop.add(2, FAIL)
    own: list[str] = []

    @asynccontextmanager
    async def never(app: FastAPI) -> AsyncIterator[None]:
        own.append("begun")
        yield

    with pytest.raises(MigrationFailed, match="on purpose") as caught:
        await enter(FastAPI(lifespan=shop.lifespan(lifespan=never)))
    assert caught.value.result.restored
    assert isinstance(caught.value.__cause__, ScriptFailed)
    assert (shop.rows, shop.versions, own, shop.story) == ({}, [], [], ["opened", "closed"])


async def test_a_lock_that_is_not_had_in_time_stops_the_start(shop: Shop) -> None:
    other = MemoryHandler("other", database=shop.database)
    assert other.lock is not None
    async with other, other.lock.hold(timeout=1, waiting=lambda holder, waited: None):
        with pytest.raises(LockNotAcquired, match="other"):
            await enter(FastAPI(lifespan=shop.lifespan(config=shop.config(lock_timeout=0.2))))
    assert shop.versions == []


@pytest.mark.parametrize("on_pending", ["migrate", "check"])
async def test_a_server_that_is_down_is_told_without_the_password(shop: Shop, on_pending: Any) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: whoever connects is refused
        url = f"postgresql://me:{SECRET}@127.0.0.1:{taken.getsockname()[1]}/app"
        app = FastAPI(lifespan=migrations_lifespan(lambda: PostgresHandler(url), shop.config(), on_pending=on_pending))
        with pytest.raises(ConnectionFailed, match="Cannot reach PostgreSQL at app@127") as caught:
            await enter(app)
    assert SECRET not in str(caught.value)


async def test_an_error_of_the_factory_and_one_of_the_own_lifespan_come_out_as_they_are(shop: Shop) -> None:
    def no_handler() -> MemoryHandler:
        raise ConfigError("There is no address.", hint="Set one.")

    with pytest.raises(ConfigError, match="no address"):
        await enter(FastAPI(lifespan=migrations_lifespan(no_handler)))

    @asynccontextmanager
    async def broken(app: FastAPI) -> AsyncIterator[None]:
        raise ValueError("the app's own")
        yield

    app = FastAPI(lifespan=shop.lifespan(lifespan=broken, keep_handler=True))
    with pytest.raises(ValueError, match="the app's own"):
        await enter(app)
    assert (shop.story, hasattr(app.state, "msr_async")) == (["opened", "closed"], False)


def test_a_handler_in_the_place_of_its_factory_is_refused_at_once() -> None:
    handler: Any = PostgresHandler("postgresql://me@host/app")
    with pytest.raises(ConfigError, match="takes a function that makes a handler"):
        migrations_lifespan(handler)


def test_an_unknown_way_with_what_is_pending_is_refused_at_once() -> None:
    way: Any = "sometimes"
    with pytest.raises(ConfigError, match="Use one of: migrate, check"):
        migrations_lifespan(MemoryHandler, on_pending=way)


# -- stopping --------------------------------------------------------------------------------------


class Flag:
    """Whether the server is to stop; set once `after` is in the database."""

    def __init__(self, shop: Shop, after: int) -> None:
        self._shop, self._after = shop, after

    def __call__(self) -> bool:
        return self._after in self._shop.versions


async def test_a_server_that_is_to_stop_has_the_run_put_back(shop: Shop) -> None:
    shop.add(2, HANG)
    with anyio.fail_after(10), pytest.raises(StartStopped) as caught:
        await enter(FastAPI(lifespan=shop.lifespan(stopping=Flag(shop, 1))))
    assert str(caught.value).startswith("The server was told to stop while it started. ")
    assert "was restored: the database is as it was before the run" in str(caught.value)
    assert (shop.rows, shop.versions, shop.story) == ({}, [], ["opened", "closed"])


async def test_a_server_that_is_to_stop_does_not_wait_for_the_lock(shop: Shop) -> None:
    other = MemoryHandler("other", database=shop.database)
    assert other.lock is not None
    async with other, other.lock.hold(timeout=1, waiting=lambda holder, waited: None):
        with anyio.fail_after(5), pytest.raises(StartStopped, match="The work was stopped and cleaned up"):
            await enter(FastAPI(lifespan=shop.lifespan(stopping=lambda: shop.heard_of(LockWaiting) > 0)))
    assert shop.versions == []


@pytest.mark.parametrize("after", ["asyncio", "anyio"])
async def test_a_cancelled_start_stays_cancelled_and_is_put_back(shop: Shop, after: str) -> None:
    shop.add(2, HANG)
    task = asyncio.create_task(enter_within(shop, 60 if after == "asyncio" else 0.5))
    while 1 not in shop.versions:
        await anyio.sleep(0.01)
    if after == "asyncio":
        task.cancel()
    with pytest.raises({"asyncio": asyncio.CancelledError, "anyio": TimeoutError}[after]):
        await asyncio.wait_for(task, 10)
    assert (shop.rows, shop.versions, shop.story) == ({}, [], ["opened", "closed"])


async def enter_within(shop: Shop, seconds: float) -> None:
    with anyio.fail_after(seconds):
        await enter(FastAPI(lifespan=shop.lifespan()))


def test_a_process_without_a_server_is_not_stopping() -> None:
    assert not server_is_stopping()


@pytest.mark.parametrize("told", [True, False])
def test_the_flag_of_the_server_that_listens_to_sigterm_is_looked_at(told: bool) -> None:
    class Server:
        should_exit = told

        def handle(self, *_: object) -> None:
            pass

    before = signal.signal(signal.SIGTERM, Server().handle)
    try:
        assert server_is_stopping() is told
    finally:
        signal.signal(signal.SIGTERM, before)


# -- manners ---------------------------------------------------------------------------------------


async def test_neither_logging_nor_signal_handlers_are_touched(shop: Shop) -> None:
    def seen() -> tuple[object, ...]:
        loggers = [logging.getLogger(name) for name in (None, "msr_async", "uvicorn", "asyncio")]
        logs = [(log.level, log.propagate, tuple(log.handlers)) for log in loggers]
        return (*logs, *(signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)))

    before = seen()
    async with serving(FastAPI(lifespan=shop.lifespan(keep_handler=True))):
        assert seen() == before
    assert seen() == before


def test_importing_it_loads_no_driver() -> None:
    code = "import sys, msr_async.fastapi; sys.exit('asyncpg' in sys.modules or 'uvicorn' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_without_fastapi_the_import_says_what_to_install() -> None:
    code = "import sys; sys.modules['fastapi'] = None; import msr_async.fastapi"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    last = done.stderr.splitlines()[-1]
    assert last == 'ModuleNotFoundError: msr_async.fastapi needs FastAPI: pip install "msr_async[fastapi]".'


# -- PostgreSQL ------------------------------------------------------------------------------------

CONNECTIONS = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() "
    "AND backend_type = 'client backend'"
)


@only_newest
@pytest.mark.parametrize(("keep", "connections"), [(False, "0"), (True, "1")], ids=["closed", "kept"])
async def test_no_connection_is_kept_while_serving_unless_asked(
    database: Database, shop: Shop, keep: bool, connections: str
) -> None:
    folder = shop.folder / "sql"
    folder.mkdir()
    (folder / "V202601010001_people.up.sql").write_text("CREATE TABLE people (id int)")
    config = Config(folder=folder, rollback_strategy=RollbackStrategy.NONE, backup_mode=BackupMode.MANUAL)
    lifespan = migrations_lifespan(lambda: PostgresHandler(database.dsn), config, keep_handler=keep)
    async with serving(FastAPI(lifespan=lifespan)):
        assert database.sql("SELECT count(*) FROM schema_version") == "1"
        with anyio.move_on_after(5):
            while await anyio.to_thread.run_sync(database.sql, CONNECTIONS) != connections:
                await anyio.sleep(0.05)
        assert database.sql(CONNECTIONS) == connections
