"""What a probe is told."""

from __future__ import annotations

import socket
from typing import Any

import anyio
import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.routing import Mount

from msr_async import ConfigError, ConnectionFailed
from msr_async.fastapi import make_readiness_router, migrations_lifespan, readiness_router
from msr_async.postgres import PostgresHandler
from msr_async.testing import MemoryHandler
from tests.fastapi.shop import Shop, client, serving

FRESH: dict[str, Any] = {"recheck": True, "cache": 0}


def app_of(shop: Shop, **router: Any) -> FastAPI:
    app = FastAPI(lifespan=shop.lifespan())
    app.include_router(make_readiness_router(**router))
    return app


async def test_an_app_that_has_started_is_ready(shop: Shop) -> None:
    app = FastAPI(lifespan=shop.lifespan())
    app.include_router(readiness_router)
    async with serving(app) as probe:
        answer = await probe.get("/ready")
    assert (answer.status_code, answer.json()) == (200, {"ready": True, "pending": []})
    assert answer.headers["cache-control"] == "no-store"


async def test_one_router_serves_several_apps(shop: Shop) -> None:
    started, other = FastAPI(lifespan=shop.lifespan()), FastAPI()
    for app in (started, other):
        app.include_router(readiness_router)
    async with serving(started) as probe, client(other) as other_probe:
        assert (await probe.get("/ready")).status_code == 200
        assert (await other_probe.get("/ready")).status_code == 503


@pytest.mark.parametrize("recheck", [False, True])
async def test_an_app_without_the_lifespan_is_not_ready_and_says_why(recheck: bool) -> None:
    app = FastAPI()
    app.include_router(make_readiness_router(recheck=recheck))
    async with client(app) as probe:
        answer = await probe.get("/ready")
    assert answer.status_code == 503
    assert answer.json() == {
        "ready": False,
        "pending": [],
        "reason": "The start-up check has not run: give this app the lifespan of migrations_lifespan().",
    }


async def test_a_starlette_app_mounts_the_router(shop: Shop) -> None:
    app = Starlette(lifespan=shop.lifespan(), routes=[Mount("/health", app=make_readiness_router())])
    async with serving(app) as probe:
        assert (await probe.get("/health/ready")).status_code == 200


async def test_the_path_can_be_another_and_stays_out_of_the_documentation(shop: Shop) -> None:
    app = app_of(shop, path="/healthz/migrations")
    async with serving(app) as probe:
        assert (await probe.get("/healthz/migrations")).status_code == 200
        assert (await probe.get("/ready")).status_code == 404
        assert (await probe.get("/openapi.json")).json()["paths"] == {}


async def test_the_router_may_be_included_under_a_prefix(shop: Shop) -> None:
    app = FastAPI(lifespan=shop.lifespan())
    app.include_router(readiness_router, prefix="/internal")
    async with serving(app) as probe:
        assert (await probe.get("/internal/ready")).status_code == 200


@pytest.mark.parametrize(("recheck", "status"), [(False, 200), (True, 503)])
async def test_only_a_recheck_sees_what_came_after_the_start(shop: Shop, recheck: bool, status: int) -> None:
    async with serving(app_of(shop, recheck=recheck, cache=0)) as probe:
        assert (await probe.get("/ready")).status_code == 200
        shop.add(2)
        answer = await probe.get("/ready")
    assert answer.status_code == status
    expected = {200: {"ready": True, "pending": []}}
    expected[503] = {
        "ready": False,
        "pending": ["V202601010002_step2"],
        "reason": "1 migration is pending: V202601010002_step2.",
    }
    assert answer.json() == expected[status]


async def test_a_recheck_tells_of_migrations_that_must_not_run(shop: Shop) -> None:
    async with serving(app_of(shop, **FRESH)) as probe:
        next((shop.folder / "migrations").iterdir()).write_text("async def up(db, ctx):\n    return 1\n")
        answer = await probe.get("/ready")
    assert answer.status_code == 503
    assert answer.json()["reason"].startswith("The migrations have problems: ")
    assert str(shop.folder) not in answer.text


async def test_an_app_is_ready_again_when_the_reason_is_gone(shop: Shop) -> None:
    async with serving(app_of(shop, **FRESH)) as probe:
        shop.add(2)
        assert (await probe.get("/ready")).status_code == 503
        (shop.folder / "migrations" / "V202601010002_step2.py").unlink()
        assert (await probe.get("/ready")).status_code == 200


async def test_an_answer_holds_for_a_while(shop: Shop) -> None:
    async with serving(app_of(shop, recheck=True, cache=0.5)) as probe:
        shop.add(2)
        assert [(await probe.get("/ready")).status_code for _ in range(5)] == [200] * 5
        assert shop.story.count("opened") == 1
        await anyio.sleep(0.6)
        assert [(await probe.get("/ready")).status_code for _ in range(5)] == [503] * 5
    assert shop.story.count("opened") == shop.story.count("closed") == 2


async def test_many_probes_at_once_ask_the_database_once(shop: Shop) -> None:
    app = FastAPI(lifespan=shop.lifespan())
    app.include_router(make_readiness_router(recheck=True, cache=0.3))
    async with serving(app) as probe:
        await anyio.sleep(0.4)
        async with anyio.create_task_group() as tasks:
            for _ in range(20):
                tasks.start_soon(probe.get, "/ready")
    assert shop.story.count("opened") == 2


async def test_a_kept_handler_is_left_alone_by_a_recheck(shop: Shop) -> None:
    app = FastAPI(lifespan=shop.lifespan(keep_handler=True))
    app.include_router(make_readiness_router(**FRESH))
    async with serving(app) as probe:
        assert (await probe.get("/ready")).status_code == 200
        assert len(await app.state.msr_async.handler.schema_version.applied()) == 1
    assert shop.story == ["opened", "opened", "closed", "closed"]


class Changing:
    """A factory of handlers that fail after the start, in the way it is told."""

    def __init__(self, shop: Shop) -> None:
        self._shop = shop
        self.then: Any = None

    def __call__(self) -> Any:
        return self._shop.handler() if self.then is None else self.then


class Hanging(MemoryHandler):
    async def __aenter__(self) -> MemoryHandler:
        await anyio.sleep(60)
        raise AssertionError


class Broken(MemoryHandler):
    async def __aenter__(self) -> MemoryHandler:
        raise ConnectionFailed("Cannot reach it.", hint="Is it running?")


@pytest.mark.parametrize(
    ("then", "reason"),
    [
        (Hanging(), "The database did not answer within 0.2 s."),
        (Broken(), "Cannot reach it. Is it running?"),
    ],
    ids=["silent", "gone"],
)
async def test_a_database_that_does_not_answer_is_a_reason(shop: Shop, then: MemoryHandler, reason: str) -> None:
    factory = Changing(shop)
    app = FastAPI(lifespan=migrations_lifespan(factory, shop.config()))
    app.include_router(make_readiness_router(recheck=True, cache=0, timeout=0.2))
    async with serving(app) as probe:
        factory.then = then
        with anyio.fail_after(5):
            answer = await probe.get("/ready")
        assert (answer.status_code, answer.json()["reason"]) == (503, reason)
        factory.then = None
        assert (await probe.get("/ready")).status_code == 200


async def test_a_server_that_went_away_is_told_without_the_password(shop: Shop) -> None:
    factory = Changing(shop)
    app = FastAPI(lifespan=migrations_lifespan(factory, shop.config()))
    app.include_router(make_readiness_router(**FRESH))
    async with serving(app) as probe:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))  # bound and not listening: whoever connects is refused
            factory.then = PostgresHandler(f"postgresql://me:hunter2-canary@127.0.0.1:{taken.getsockname()[1]}/app")
            answer = await probe.get("/ready")
    assert answer.status_code == 503
    assert "Cannot reach PostgreSQL" in answer.text
    assert "hunter2-canary" not in answer.text


@pytest.mark.parametrize(
    "arguments", [{"path": "ready"}, {"cache": -1}, {"timeout": 0}], ids=lambda item: next(iter(item))
)
def test_what_cannot_work_is_refused_at_once(arguments: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        make_readiness_router(**arguments)
