"""Migrations at the start of a FastAPI or Starlette app, and a route that says whether it is ready.

The start is the time before the first request. Several processes may start at once: one migrates, the others wait.
Nothing here touches the app's logging or its signal handlers.
"""

from __future__ import annotations

import inspect
import logging
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any, Literal, TypeAlias, TypeVar

import anyio
from msgspec import Struct

from .config import Config
from .errors import ConfigError, MsrError, ValidationFailed
from .events import Event, Observer, Warned
from .executor import MigrationScriptExecutor
from .models import Migration, MigrationResult, Plan
from .protocols import DatabaseMigrationHandler, Storage

try:
    from fastapi import APIRouter
    from starlette.requests import Request
    from starlette.responses import JSONResponse
    from starlette.routing import Route
except ModuleNotFoundError as error:
    if error.name != "fastapi":
        raise
    raise ModuleNotFoundError(
        'msr_async.fastapi needs FastAPI: pip install "msr_async[fastapi]".', name="fastapi"
    ) from None

__all__ = [
    "MigrationsPending",
    "OnPending",
    "Readiness",
    "StartStopped",
    "Started",
    "make_readiness_router",
    "migrations_lifespan",
    "readiness_router",
    "server_is_stopping",
]

T = TypeVar("T")
OnPending: TypeAlias = Literal["migrate", "check"]
HandlerFactory: TypeAlias = Callable[[], DatabaseMigrationHandler[Any]]
Lifespan: TypeAlias = Callable[[Any], AbstractAsyncContextManager[Any]]
"""From the app to what surrounds its serving; what that yields is the state of every request."""

_STOP_LOOKS = 0.1
"""Seconds between two looks at whether the server is to stop."""
_NAMED = 10

log = logging.getLogger("msr_async.fastapi")


class MigrationsPending(MsrError):
    """Migrations are pending where the app may only check: it does not start."""

    def __init__(self, pending: Sequence[Migration]) -> None:
        self.pending = tuple(pending)
        super().__init__(
            f"{_count(self.pending)} pending, so the app does not start: {_names(self.pending)}.",
            hint="Run `msr-async migrate` before it starts, or let the app do it with on_pending='migrate'.",
        )


class StartStopped(MsrError):
    """The server was told to stop while the start was under way; what had to be put back was put back first."""

    def __init__(self, story: str) -> None:
        super().__init__(
            f"The server was told to stop while it started. {story or 'The work was stopped and cleaned up.'}"
        )


# -- ready or not ----------------------------------------------------------------------------------


class Readiness(Struct, frozen=True, kw_only=True):
    """The answer to a probe."""

    ready: bool
    reason: str = ""
    """Why not, in a sentence."""
    pending: tuple[str, ...] = ()


READY = Readiness(ready=True)
_NOT_STARTED = Readiness(
    ready=False, reason="The start-up check has not run: give this app the lifespan of migrations_lifespan()."
)


def _readiness(plan: Plan) -> Readiness:
    names = tuple(str(migration) for migration in plan.pending)
    if plan.errors:
        told = "; ".join(f"{issue.message} [{issue.code}]" for issue in plan.errors[:_NAMED])
        return Readiness(ready=False, reason=f"The migrations have problems: {told}", pending=names)
    if names:
        reason = f"{_count(plan.pending)} pending: {_names(plan.pending)}."
        return Readiness(ready=False, reason=reason, pending=names)
    return READY


class Started:
    """What the lifespan leaves at `app.state.msr_async`: the app has started, and this is what came of it."""

    def __init__(
        self,
        *,
        result: MigrationResult | None,
        handler: DatabaseMigrationHandler[Any] | None,
        look: Callable[[], Awaitable[Plan]],
    ) -> None:
        self.result = result
        """What this process migrated; None when it only checked."""
        self.handler = handler
        """The open handler, with `keep_handler=True`."""
        self._look = look
        self._looking = anyio.Lock()
        self._answer = READY
        self._answered = time.monotonic()

    def __repr__(self) -> str:
        executed = "checked" if self.result is None else f"{len(self.result.executed)} migrated"
        return f"<Started, {executed}, {'handler kept' if self.handler else 'handler closed'}>"

    async def recheck(self, *, cache: float, timeout: float) -> Readiness:
        """Ask the database whether something is pending; one asks for all, and its answer holds for `cache` seconds."""
        async with self._looking:
            if time.monotonic() - self._answered >= cache:
                self._answer = await self._ask(timeout)
                self._answered = time.monotonic()
            return self._answer

    async def _ask(self, timeout: float) -> Readiness:
        try:
            with anyio.fail_after(timeout):
                return _readiness(await self._look())
        except TimeoutError:
            return Readiness(ready=False, reason=f"The database did not answer within {timeout:g} s.")
        except MsrError as error:
            return Readiness(ready=False, reason=str(error))


def make_readiness_router(
    path: str = "/ready", *, recheck: bool = False, cache: float = 1.0, timeout: float = 5.0
) -> APIRouter:
    """A router whose one route answers 200 when the app is ready and 503 with the reason when it is not.

    Args:
        path: of the route.
        recheck: ask the database, over a connection of its own. Without it the answer is that of the start.
        cache: seconds that an answer of the database holds.
        timeout: seconds that the database has for it.
    """
    if not path.startswith("/"):
        raise ConfigError(f"path is {path!r}.", hint="Let it begin with a slash.")
    if cache < 0 or timeout <= 0:
        raise ConfigError(
            f"cache is {cache!r} and timeout is {timeout!r}.", hint="Give seconds: cache from 0 up, timeout above 0."
        )

    async def ready(request: Request) -> JSONResponse:
        started: Started | None = getattr(request.app.state, "msr_async", None)
        answer = _NOT_STARTED if started is None else READY
        if started is not None and recheck:
            answer = await started.recheck(cache=cache, timeout=timeout)
        content: dict[str, object] = {"ready": answer.ready, "pending": answer.pending}
        if not answer.ready:
            content["reason"] = answer.reason
        return JSONResponse(content, status_code=200 if answer.ready else 503, headers={"Cache-Control": "no-store"})

    # A plain route, so that Starlette can mount the router too.
    return APIRouter(routes=[Route(path, ready, include_in_schema=False)])


readiness_router = make_readiness_router()
"""`GET /ready`, answered from the start."""


# -- the start -------------------------------------------------------------------------------------


def server_is_stopping() -> bool:
    """Whether the server that runs this process was told to stop, where that can be seen.

    uvicorn only notes a SIGTERM while an app starts. The note is looked at through the handler that it has installed,
    which is a method of the server; with another server this says False.
    """
    server = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    return getattr(server, "should_exit", False) is True


def migrations_lifespan(
    handler_factory: HandlerFactory,
    config: Config | None = None,
    *,
    on_pending: OnPending = "migrate",
    lifespan: Lifespan | Callable[[Any], AsyncIterator[Any]] | None = None,
    storage: Storage | None = None,
    observers: Sequence[Observer] = (),
    keep_handler: bool = False,
    stopping: Callable[[], bool] = server_is_stopping,
) -> Lifespan:
    """A lifespan for `FastAPI(lifespan=...)` that migrates, or checks, before the app serves its first request.

    Args:
        handler_factory: makes a handler that is not open; a new one at each call.
        config: as for `MigrationScriptExecutor`, and so are `storage` and `observers`.
        on_pending: `migrate`, or `check`: raise when something is pending, so that the app does not start.
        lifespan: the app's own, entered after the migrations and left before everything else; its state is passed on.
        keep_handler: leave the handler open while the app serves, at `app.state.msr_async.handler`. Otherwise it is
            closed first, and no connection of it stays.
        stopping: asked ten times a second during the start. Once it says True, the start is cancelled and what was
            done is put back as after a failure.

    Raises:
        MigrationsPending: by the lifespan, like the rest: `check` found something pending.
        StartStopped: `stopping` said so.
        MsrError: what `migrate()` and `status()` raise; the server ends, and its log holds the sentence.
    """
    if not callable(handler_factory):
        raise ConfigError(
            "migrations_lifespan takes a function that makes a handler.",
            hint="Write migrations_lifespan(lambda: PostgresHandler(url)).",
        )
    if on_pending not in ("migrate", "check"):
        raise ConfigError(f"on_pending is {on_pending!r}.", hint="Use one of: migrate, check.")
    own = _as_lifespan(lifespan)
    settings = Config() if config is None else config

    def executor(handler: DatabaseMigrationHandler[Any], *more: Observer) -> MigrationScriptExecutor[Any]:
        return MigrationScriptExecutor(handler, settings, storage=storage, observers=(*observers, *more))

    async def look() -> Plan:
        async with handler_factory() as handler:
            return await executor(handler).status()

    @asynccontextmanager
    async def started(app: Any) -> AsyncIterator[Mapping[str, Any] | None]:
        async with AsyncExitStack() as opened:
            handler = await opened.enter_async_context(handler_factory())
            warnings: list[str] = []

            def listen(event: Event) -> None:
                if isinstance(event, Warned):
                    warnings.append(event.message)

            work = executor(handler, listen)
            start = work.migrate if on_pending == "migrate" else lambda: _check(work)
            result = await _unless_stopped(start, stopping, warnings)
            if not keep_handler:
                await opened.aclose()
            app.state.msr_async = Started(result=result, handler=handler if keep_handler else None, look=look)
            try:
                async with own(app) as state:
                    yield state
            finally:
                del app.state.msr_async

    return started


async def _check(executor: MigrationScriptExecutor[Any]) -> None:
    plan = await executor.status()
    if plan.errors:
        raise ValidationFailed(plan.errors)
    if plan.pending:
        raise MigrationsPending(plan.pending)


async def _unless_stopped(work: Callable[[], Awaitable[T]], stopping: Callable[[], bool], warnings: list[str]) -> T:
    """Do the work; cancel it once `stopping` says so, and tell what has been warned of since."""
    scope = anyio.CancelScope()
    failure: Exception | None = None
    result: list[T] = []
    said = 0

    async def watch() -> None:
        nonlocal said
        while not stopping():  # noqa: ASYNC110 - a flag of the server's; nothing tells of it
            await anyio.sleep(_STOP_LOOKS)
        said = len(warnings)
        log.warning("The server was told to stop: the start is cancelled and what it did is put back.")
        scope.cancel()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watch)
        with scope:
            try:
                result.append(await work())
            except Exception as error:  # carried out of the task group, which would wrap it
                failure = error
        tasks.cancel_scope.cancel()
    if scope.cancelled_caught:
        # A cancellation cannot carry the story of the recovery; the engine tells it as a warning.
        raise StartStopped(" ".join(warnings[said:]))
    if failure is not None:
        raise failure
    return result[0]


def _as_lifespan(given: Lifespan | Callable[[Any], AsyncIterator[Any]] | None) -> Lifespan:
    if given is None:
        return _nothing
    if inspect.isasyncgenfunction(given):
        return asynccontextmanager(given)
    return given  # type: ignore[return-value]  # of the two kinds it is not the generator


@asynccontextmanager
async def _nothing(app: object) -> AsyncIterator[None]:
    yield


def _count(migrations: Sequence[Migration]) -> str:
    return f"{len(migrations)} migration{' is' if len(migrations) == 1 else 's are'}"


def _names(migrations: Sequence[Migration]) -> str:
    more = f" and {len(migrations) - _NAMED} more" if len(migrations) > _NAMED else ""
    return ", ".join(str(migration) for migration in migrations[:_NAMED]) + more
