"""One service process: what it holds, how it starts and stops, and the HTTP application around it."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import structlog
from fastapi import APIRouter, FastAPI
from starlette.routing import Route
from starlette.types import ASGIApp

from sluice_core import errors
from sluice_core.audit import Trail
from sluice_core.auth import Authenticator, Keyring
from sluice_core.auth.facility import Facility
from sluice_core.auth.passwords import AskedPasswords, RegistryPasswords
from sluice_core.bus import Bucket, Bus, Stream
from sluice_core.database import Database, DatabaseAway, require_current
from sluice_core.health import Health
from sluice_core.http import BODY_LIMIT, BasePath, BodyLimit, Envelope
from sluice_core.metrics import AuditMetrics, BusMetrics, Metrics
from sluice_core.openapi import document
from sluice_core.rest import Door, Endpoint, Resource
from sluice_core.settings import ServiceSettings
from sluice_core.supervise import Supervisor

__all__ = ["Service", "build"]

log = structlog.get_logger(__name__)

_RETRY = 0.5
_CLOSE = 1.0


class Service:
    """What one service process holds. It is made without connecting to anything; `running` opens it.

    Parameters
    ----------
    name
        Such as ``registry``.
    settings
        The service's own settings.
    keeps
        Streams and buckets that the service makes, also when the server has lost them.

    Attributes
    ----------
    database, bus, auth, supervisor, health, metrics
        The rooms of `sluice_core`, one of each.
    trail
        Takes audit records.
    facility
        The site's own accounts; None where it has none.
    zone
        The server zone of date-times.
    draining
        Set when the process begins to stop: endless answers (SSE) watch it and end.
    """

    def __init__(self, name: str, settings: ServiceSettings, *, keeps: Sequence[Stream | Bucket] = ()) -> None:
        shared = settings.shared
        self.name = name
        self.settings = settings
        self.keeps = tuple(keeps)
        self.zone = shared.zone
        self.database = Database(
            settings.database_url.get_secret_value(),
            pool_size=settings.pool_size,
            timezone=shared.timezone,
            application_name=f"sluice-{name}",
        )
        self.bus = Bus(shared.nats_url.get_secret_value(), name=f"sluice-{name}", keeps=keeps)
        self.trail = Trail(self.bus, name)
        self.keyring = Keyring()
        self.facility = Facility.configured(shared)
        self.auth = Authenticator(self.keyring, facility=self.facility)
        self._registry = RegistryPasswords(shared.peer("registry"))
        self.auth.passwords = AskedPasswords(self._registry.ask, self.keyring, shared.trusted_proxies)
        self.supervisor = Supervisor()
        self.health = Health()
        self.metrics = Metrics()
        self.draining = asyncio.Event()
        self._started = False
        self._looking: asyncio.Task[None] | None = None
        self.health.add("start", lambda: (self._started, "" if self._started else "starting"))
        self.health.add("database", self._check_database)
        self.health.add("bus", self.bus.check)
        self.health.add("keyring", self._check_keyring)
        self.health.add("tasks", self.supervisor.check)
        self.metrics.gauge("sluice_db_pool_size", "Database connections allowed.", lambda: settings.pool_size)
        self.metrics.gauge("sluice_db_pool_in_use", "Database connections in use.", lambda: self.database.in_use)
        self.metrics.registry.register(BusMetrics(self.bus))
        self.metrics.registry.register(AuditMetrics(self.trail))

    def drain(self) -> None:
        """Begin to stop: readiness turns red, endless answers end."""
        self.health.draining = True
        self.draining.set()

    @asynccontextmanager
    async def running(self, package: str) -> AsyncIterator[None]:
        """Open everything, and close it in reverse order.

        NATS may be away: the service starts, and is not ready before it has read the keyring once.

        Parameters
        ----------
        package
            Import name of the service, whose migrations the database must be at.

        Raises
        ------
        SchemaOutdated
            The database is at another version than the code.
        DatabaseAway
            PostgreSQL did not answer within ``SLUICE_START_TIMEOUT``.
        """
        # Several services may share one process and its log.
        structlog.contextvars.bind_contextvars(service=self.name)
        try:
            await self._require_current(package)
            self.supervisor.spawn("database", self.database.watch)
            await self.bus.open()
            self.supervisor.spawn("audit", partial(self.trail.run, self.supervisor.stopping), graceful=True)
            for bucket, feed in self.keyring.feeds.items():
                on_ready = partial(self.keyring.mark_read, bucket)
                # A NATS that has lost its data must not lock everybody out until the registry has told it again.
                watch = partial(self.bus.watch, bucket, feed, on_ready, keep_lost=True)
                self.supervisor.spawn(f"watch {bucket}", watch)
            if self.facility is not None:
                self.supervisor.spawn("facility's keys", self.facility.provider.run)
            self._started = True
            yield
        finally:
            self.drain()
            await self.supervisor.stop()
            await self._registry.close()
            if self.facility is not None:
                await self.facility.provider.close()
            await self.bus.close()
            await self._close_database()

    async def _require_current(self, package: str) -> None:
        until = time.monotonic() + self.settings.shared.start_timeout.total_seconds()
        while True:
            try:
                await self.database.run(require_current, self.database, package)
            except DatabaseAway as exc:
                if time.monotonic() > until:
                    raise
                log.warning("waiting for PostgreSQL", service=self.name, reason=str(exc))
                await asyncio.sleep(_RETRY)
            else:
                return

    async def _close_database(self) -> None:
        closing = asyncio.create_task(asyncio.to_thread(self.database.close))
        await asyncio.wait([closing], timeout=_CLOSE)
        if not closing.done():
            log.warning("a database statement outlives the service", service=self.name)

    async def _check_database(self) -> tuple[bool, str]:
        # Not in the threads of the database: a busy service would wait behind its own requests and call itself unready.
        # And one look at a time: while PostgreSQL hangs, each holds one of the few threads that all services share.
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(asyncio.to_thread(self.database.check))
            # What nobody waited for long enough to see.
            self._looking.add_done_callback(lambda task: task.cancelled() or task.exception())
        await asyncio.shield(self._looking)
        return True, ""

    def _check_keyring(self) -> tuple[bool, str]:
        unread = self.keyring.unread
        return not unread, f"not read yet: {', '.join(sorted(unread))}" if unread else ""


class _Application(FastAPI):
    """FastAPI that begins with the envelope.

    What stands before it otherwise handles errors that the envelope has handled, and bounds bodies that are bounded
    further in; on a short request it spends a seventh of the time.
    """

    def build_middleware_stack(self) -> ASGIApp:
        whole = stack = super().build_middleware_stack()
        if _traced():
            return whole
        while not isinstance(stack, Envelope):
            stack = stack.app  # type: ignore[attr-defined]
        return stack


def _traced() -> bool:
    return any(name.startswith("OTEL_") for name in os.environ)


def build(
    service: Service,
    *,
    title: str,
    package: str,
    resources: Sequence[Resource] = (),
    endpoints: Sequence[Endpoint] = (),
    routers: Sequence[APIRouter] = (),
    wire: Callable[[Service], AbstractAsyncContextManager[Any]] | None = None,
    body_limit: int = BODY_LIMIT,
) -> FastAPI:
    """Return the HTTP application of a service.

    From the outside inwards: envelope, base path, the contract's door (`sluice_core.rest`), body limit, FastAPI with
    the new endpoints.

    Parameters
    ----------
    title
        Of the OpenAPI document.
    package
        Import name; its distribution tells the version, its migrations the schema.
    resources, endpoints
        In the contract's wire format.
    routers
        New endpoints; they answer RFC 9457 problems.
    wire
        Entered once everything is open: the service starts its consumers and timers here.
    body_limit
        Bytes of a request body of the new endpoints.

    Returns
    -------
    FastAPI
        ``app.state`` holds the service, and what it declares as ``resources``, ``endpoints`` and ``routers``.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with service.running(package):
            async with wire(service) if wire is not None else nullcontext():
                yield

    shared = service.settings.shared
    app = _Application(
        title=title,
        version=_version(package),
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
        strict_content_type=False,
        telemetry={
            # Else every request looks through the environment for a tracer that was never configured.
            "tracing": _traced(),
            "metrics": False,
            "logs": False,
            "operation_spans": False,
            "auto_configure": True,
        },
    )
    app.state.service = service
    app.state.resources, app.state.endpoints, app.state.routers = tuple(resources), tuple(endpoints), tuple(routers)
    errors.install(app)
    for router in routers:
        app.include_router(router)
    app.add_middleware(BodyLimit, limit=body_limit)
    app.add_middleware(
        Door,
        database=service.database,
        resources=resources,
        endpoints=endpoints,
        authenticator=service.auth,
        zone=service.zone,
        anonymous_read=shared.anonymous_read,
    )
    if shared.base_path:
        app.add_middleware(BasePath, prefix=shared.base_path)
    app.add_middleware(
        Envelope,
        metrics=service.metrics,
        service=service.name,
        public_url=shared.public_url,
        trail=service.trail,
        trusted=shared.trusted_proxies,
    )
    for path, methods in _routes(resources, endpoints, routers):
        service.metrics.declare(path, methods)
    app.openapi = lambda: document(app, resources, endpoints)  # type: ignore[method-assign]
    return app


def _version(package: str) -> str:
    try:
        return version(package.replace("_", "-"))
    except PackageNotFoundError:
        return "0"


def _routes(
    resources: Sequence[Resource], endpoints: Sequence[Endpoint], routers: Sequence[APIRouter]
) -> Iterator[tuple[str, Iterable[str]]]:
    """Yield the template and the methods of every path that is served."""
    for resource in resources:
        yield resource.path, ("GET", "POST", "HEAD", "OPTIONS")
        yield f"{resource.path}{{{resource.key}}}/", ("GET", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")
    for endpoint in endpoints:
        yield endpoint.path, endpoint.methods
    for router in routers:
        for route in router.routes:
            if isinstance(route, Route):
                yield route.path, route.methods or ()
