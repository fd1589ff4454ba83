"""A whole service behind a real uvicorn, with a real PostgreSQL and a real nats-server."""

import asyncio
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi import APIRouter, FastAPI
from pydantic import BaseModel, SecretStr
from sqlalchemy import text

from sluice_core.bus import KEYS, REVOKED, TOKENS
from sluice_core.database import DatabaseAway, SchemaOutdated, migrate
from sluice_core.errors import Problem
from sluice_core.health import Report
from sluice_core.http.admin import Observed, admin_app
from sluice_core.http.server import Listener, Server, ServiceDied, serve
from sluice_core.rest import Endpoint, Reply, Request
from sluice_core.service import Service, build
from sluice_core.settings import ServiceSettings, Shared, service_config
from sluice_core.testing import eventually_async
from sluice_core.testing.servers import NatsServer, PostgresServer

BUCKETS = (KEYS, TOKENS, REVOKED)
MIGRATION = """
from alembic import op

revision, down_revision = "0001", None


def upgrade() -> None:
    op.execute("CREATE TABLE plan (name text PRIMARY KEY)")
"""


class Settings(ServiceSettings):
    model_config = service_config("demo")


class Plan(BaseModel):
    name: str


class PlanUnknown(Problem):
    status, code, title = 404, "plan_unknown", "No such plan"


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A package with migrations, as a service has one."""
    home = tmp_path_factory.mktemp("packages")
    versions = home / "sluice_demo" / "migrations" / "versions"
    versions.mkdir(parents=True)
    (home / "sluice_demo" / "__init__.py").touch()
    (versions.parent / "env.py").write_text("from sluice_core.database.alembic_env import run\n\nrun()\n")
    (versions / "0001_demo.py").write_text(MIGRATION)
    sys.path.insert(0, str(home))
    yield "sluice_demo"
    sys.path.remove(str(home))
    sys.modules.pop("sluice_demo", None)


@pytest.fixture
def settings(empty_database: str, nats_server: NatsServer) -> Settings:
    return Settings(
        database_url=SecretStr(empty_database),
        pool_size=2,
        shared=Shared(nats_url=SecretStr(nats_server.url()), base_path="/lab", start_timeout="1s"),
    )


def plans(service: Service) -> APIRouter:
    router = APIRouter(prefix="/api/plans")

    @router.get("/{name}")
    def plan(name: str, limit: int = 5) -> dict[str, Any]:
        if not service.database.read(
            lambda c: c.execute(text("SELECT 1 FROM plan WHERE name = :n"), {"n": name}).first()
        ):
            raise PlanUnknown(f"no plan {name}")
        return {"name": name, "limit": limit}

    @router.post("/")
    def add(plan: Plan) -> int:
        return len(plan.name)

    return router


async def ping(request: Request) -> Reply:
    return Reply(200, {"url": request.url("/api/ping/")})


PING = Endpoint(
    "/api/ping/", {"GET": ping}, auth="open", openapi={"get": {"responses": {"200": {"description": "Here"}}}}
)


def demo(settings: Settings, package: str, wire: Any = None) -> FastAPI:
    service = Service("demo", settings, keeps=BUCKETS)
    return build(service, title="Demo", package=package, endpoints=(PING,), routers=(plans(service),), wire=wire)


class Process:
    """What a container with one service does, in this process."""

    def __init__(self, app: FastAPI) -> None:
        self.service: Service = app.state.service
        self.http, self.admin = Listener("127.0.0.1", 0), Listener("127.0.0.1", 0)
        self.stop, self.ready = asyncio.Event(), asyncio.Event()
        admin = Server(admin_app(Observed(self.service.health, self.service.metrics)), self.admin)
        run = serve([app], [Server(app, self.http)], admin=admin, stop=self.stop, on_ready=self.ready.set)
        self.task = asyncio.create_task(run)

    async def until_ready(self) -> None:
        waiting = asyncio.create_task(self.ready.wait())
        await asyncio.wait([waiting, self.task], return_when=asyncio.FIRST_COMPLETED, timeout=10)
        if self.task.done():
            waiting.cancel()
            await self.task
        await eventually_async(self.is_ready)

    async def is_ready(self) -> Report | None:
        report = await self.service.health.ready()
        assert report.ok, report
        return report

    async def end(self) -> None:
        self.stop.set()
        await asyncio.wait_for(self.task, 5)


@pytest.fixture
async def process(settings: Settings, package: str) -> AsyncIterator[Process]:
    migrate(settings.database_url.get_secret_value(), package)
    process = Process(demo(settings, package))
    await process.until_ready()
    yield process
    await process.end()


@pytest.fixture
async def http(process: Process) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(base_url=f"{process.http.url()}/lab", trust_env=False) as client:
        yield client


async def test_old_and_new_endpoints_answer_behind_the_prefix(process: Process, http: httpx2.AsyncClient) -> None:
    process.service.database.transact(lambda c: c.execute(text("INSERT INTO plan VALUES ('scan')")))
    assert (await http.get("/api/ping/")).json() == {"url": f"{process.http.url()}/lab/api/ping/"}
    assert (await http.get("/api/plans/scan")).json() == {"name": "scan", "limit": 5}
    for path, status, kind in [
        ("/api/plans/none", 404, "application/problem+json"),
        ("/api/plans/scan?limit=x", 400, "application/problem+json"),
        ("/nowhere", 404, "text/html; charset=utf-8"),
        ("/../api/ping/", 404, "text/html; charset=utf-8"),
    ]:
        reply = await http.get(path)
        assert (reply.status_code, reply.headers["content-type"]) == (status, kind)
        assert reply.headers["x-frame-options"] == "DENY"
        assert reply.headers["x-request-id"]
    slashless = await http.get("/api/ping")
    assert (slashless.status_code, slashless.headers["location"]) == (301, "/lab/api/ping/")
    assert "x-frame-options" not in slashless.headers


async def test_a_long_body_of_a_new_endpoint_is_refused(process: Process, http: httpx2.AsyncClient) -> None:
    reply = await http.post("/api/plans/", json={"name": "x" * 4 * 1024 * 1024})
    assert (reply.status_code, reply.json()["type"]) == (413, "urn:problem:too_large")
    assert (await http.post("/api/plans/", json={"name": "x" * 4_000_000})).json() == 4_000_000


async def test_every_route_is_counted_from_the_start_under_its_template(
    process: Process, http: httpx2.AsyncClient
) -> None:
    await http.get("/api/ping/")
    await http.get("/api/plans/x")
    async with httpx2.AsyncClient(trust_env=False) as admin:
        metrics = await admin.get(f"{process.admin.url()}/metrics")
    for line in (
        'sluice_http_requests_total{method="GET",route="/api/ping/",status="200"} 1.0',
        'sluice_http_requests_total{method="GET",route="/api/plans/{name}",status="404"} 1.0',
        'sluice_http_requests_total{method="GET",route="/api/plans/{name}",status="500"} 0.0',
        "sluice_db_pool_size 2.0",
        "sluice_bus_connected 1.0",
    ):
        assert line in metrics.text


async def test_the_document_holds_old_and_new_endpoints_and_the_refusals_that_are_answered(
    settings: Settings, package: str
) -> None:
    found = demo(settings, package).openapi()
    assert set(found["paths"]) == {"/api/ping/", "/api/plans/{name}", "/api/plans/"}
    answers = found["paths"]["/api/plans/{name}"]["get"]["responses"]
    assert set(answers) == {"200", "400", "503"}
    assert answers["400"]["content"] == {
        "application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}
    }
    assert "HTTPValidationError" not in found["components"]["schemas"]


async def test_an_old_schema_is_refused_with_what_to_type(settings: Settings, package: str) -> None:
    with pytest.raises(SchemaOutdated, match="sluice migrate --service demo"):
        await Process(demo(settings, package)).until_ready()


async def test_a_database_that_stays_away_is_said_within_the_deadline(settings: Settings, package: str) -> None:
    away = settings.model_copy(update={"database_url": SecretStr("postgresql+psycopg2://a:b@127.0.0.1:1/x")})
    with pytest.raises(DatabaseAway):
        await Process(demo(away, package)).until_ready()


async def test_without_nats_a_service_answers_but_is_not_ready_until_nats_is_there(
    settings: Settings, package: str, nats_server: NatsServer
) -> None:
    migrate(settings.database_url.get_secret_value(), package)
    nats_server.kill()
    process = Process(demo(settings, package))
    await asyncio.wait_for(process.ready.wait(), 10)
    async with httpx2.AsyncClient(trust_env=False) as client:
        assert (await client.get(f"{process.http.url()}/lab/api/ping/")).status_code == 200
        report = await client.get(f"{process.admin.url()}/readyz")
    assert report.status_code == 503
    checks = report.json()["checks"]
    assert not checks["bus"]["ok"]
    assert checks["keyring"] == {"ok": False, "detail": "not read yet: keys, revoked, tokens"}
    assert checks["database"]["ok"]
    nats_server.start()
    await eventually_async(process.is_ready, 20)
    nats_server.kill()
    await eventually_async(lambda: not process.service.bus.connected)
    assert process.service.keyring.ready  # what was read holds
    await process.end()


async def test_a_database_that_goes_away_is_503_at_once_and_comes_back_by_itself(
    process: Process, http: httpx2.AsyncClient, postgres_server: PostgresServer
) -> None:
    assert (await http.get("/api/plans/x")).status_code == 404
    postgres_server.kill()
    for _ in range(3):
        reply = await asyncio.wait_for(http.get("/api/plans/x"), 2)
        assert reply.status_code == 503
        assert int(reply.headers["retry-after"]) > 0
    await eventually_async(lambda: _not_ready(process))
    postgres_server.start()
    await eventually_async(process.is_ready)
    assert (await http.get("/api/plans/x")).status_code == 404


async def _not_ready(process: Process) -> bool:
    return not (await process.service.health.ready()).ok


async def test_a_database_that_hangs_holds_one_thread_however_often_readiness_is_asked(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = Service("demo", settings)
    released = threading.Event()
    looks: list[bool] = []

    def hang() -> None:
        looks.append(True)
        released.wait(10)

    monkeypatch.setattr(service.database, "check", hang)
    monkeypatch.setattr(service.health, "_timeout", 0.05)
    monkeypatch.setattr(service.health, "_max_age", 0)
    for _ in range(5):
        assert not (await service.health.ready()).checks["database"].ok
    assert len(looks) == 1
    released.set()

    async def is_well() -> bool:
        return (await service.health.ready()).checks["database"].ok

    await eventually_async(is_well)


async def test_what_wire_starts_is_supervised_and_ended(settings: Settings, package: str) -> None:
    migrate(settings.database_url.get_secret_value(), package)
    steps: list[str] = []

    @asynccontextmanager
    async def wire(service: Service) -> AsyncIterator[None]:
        async def consumer() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                steps.append("consumer ends")

        service.supervisor.spawn("consumer", consumer)
        yield
        steps.append("wire ends")

    process = Process(demo(settings, package, wire))
    await process.until_ready()
    await process.end()
    assert steps == ["wire ends", "consumer ends"]


async def test_a_dead_task_turns_readiness_red_and_ends_the_process(settings: Settings, package: str) -> None:
    migrate(settings.database_url.get_secret_value(), package)
    broken = asyncio.Event()

    @asynccontextmanager
    async def wire(service: Service) -> AsyncIterator[None]:
        async def consumer() -> None:
            await broken.wait()
            raise ValueError("no stream")

        service.supervisor.spawn("consumer", consumer)
        yield

    process = Process(demo(settings, package, wire))
    await process.until_ready()
    broken.set()
    with pytest.raises(ServiceDied, match="demo: consumer: ValueError"):
        await asyncio.wait_for(process.task, 5)


def test_nothing_connects_before_the_lifespan(package: str, tmp_path: Path) -> None:
    nowhere = Settings(
        database_url=SecretStr("postgresql://a:b@192.0.2.1/x"),
        shared=Shared(nats_url=SecretStr("nats://192.0.2.1:4222")),
    )
    app = demo(nowhere, package)
    assert not app.state.service.bus.connected
