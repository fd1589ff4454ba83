"""The envelope: what every answer has, and that no exception gets past it."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import structlog
from fastapi import APIRouter, FastAPI
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import generate_latest
from starlette.requests import ClientDisconnect
from starlette.testclient import TestClient
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sluice_core.database import DatabaseAway
from sluice_core.http import Envelope, absolute_url
from sluice_core.http.envelope import ROUTE, SECURITY, STREAM
from sluice_core.logging import request_context
from sluice_core.metrics import Metrics

SECURITY_HEADERS = {name.decode(): value.decode() for name, value in SECURITY}


def answering(
    status: int = 200, *, before: Callable[[Scope], None] = lambda scope: None, headers: list[Any] | None = None
) -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        before(scope)
        await send({"type": "http.response.start", "status": status, "headers": headers or []})
        await send({"type": "http.response.body", "body": b"{}"})

    return app


def raising(exc: BaseException, *, after_start: bool = False) -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if after_start:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        raise exc

    return app


def client(app: ASGIApp, metrics: Metrics | None = None, **options: Any) -> TestClient:
    return TestClient(Envelope(app, metrics or Metrics(), **options))


def exposition(metrics: Metrics) -> str:
    return generate_latest(metrics.registry).decode()


@pytest.mark.parametrize("status", [200, 201, 204, 302, 400, 404, 405])
def test_every_answer_carries_the_headers_of_the_contract(status: int) -> None:
    reply = client(answering(status)).get("/", follow_redirects=False)
    assert SECURITY_HEADERS.items() <= dict(reply.headers).items()


def test_a_slash_redirect_carries_none_of_them() -> None:
    reply = client(answering(301, headers=[(b"location", b"/x/")])).get("/x", follow_redirects=False)
    assert not SECURITY_HEADERS.keys() & dict(reply.headers).keys()
    assert reply.headers["location"] == "/x/"


def test_every_request_gets_an_id_of_its_own() -> None:
    http = client(answering())
    ids = {http.get("/").headers["x-request-id"] for _ in range(50)}
    assert len(ids) == 50


def test_a_sane_request_id_of_the_caller_is_kept_and_logged() -> None:
    seen: list[str | None] = []

    def look(scope: Scope) -> None:
        context = request_context.get()
        assert context is not None
        seen.extend([context.request_id, context.traceparent])

    traceparent = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
    reply = client(answering(before=look)).get("/", headers={"X-Request-ID": "abc.1-2_3", "traceparent": traceparent})
    assert reply.headers["x-request-id"] == "abc.1-2_3"
    assert seen == ["abc.1-2_3", traceparent]


def test_what_a_websocket_logs_has_a_request_id_too() -> None:
    seen: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        context = request_context.get()
        assert context is not None
        seen.extend([context.request_id, context.service])
        await send({"type": "websocket.accept"})

    with client(app, service="demo").websocket_connect("/", headers={"X-Request-ID": "abc"}):
        assert seen == ["abc", "demo"]


@pytest.mark.parametrize("bad", ["a b", "x" * 65, "<script>", "é", ""])
def test_an_odd_request_id_is_replaced(bad: str) -> None:
    reply = client(answering()).get("/", headers=[(b"X-Request-ID", bad.encode())])
    assert reply.headers["x-request-id"] not in (bad, "")


def test_an_exception_is_a_page_without_details() -> None:
    metrics = Metrics()
    reply = client(raising(ValueError("the secret of the house")), metrics).get("/")
    assert (reply.status_code, reply.headers["content-type"]) == (500, "text/html; charset=utf-8")
    assert "secret" not in reply.text
    assert "ValueError" not in reply.text
    assert SECURITY_HEADERS.items() <= dict(reply.headers).items()
    assert 'method="GET",route="other",status="500"} 1.0' in exposition(metrics)


def test_an_exception_is_logged_with_its_request() -> None:
    with structlog.testing.capture_logs() as lines:
        client(raising(ValueError("boom"))).get("/x", headers={"X-Request-ID": "r1"})
    assert [(line["event"], line["route"]) for line in lines] == [("request failed", "other")]


def test_an_absent_database_is_503_with_retry_after() -> None:
    reply = client(raising(DatabaseAway("no route"))).get("/")
    assert reply.status_code == 503
    assert int(reply.headers["retry-after"]) > 0
    assert reply.headers["content-type"] == "application/json"
    assert reply.json() == {"detail": "The database is not available at the moment."}


@pytest.mark.parametrize("exc", [ValueError("page 7"), DatabaseAway("page 7")])
def test_a_failure_amid_an_answer_reaches_the_server_which_aborts_the_connection(exc: Exception) -> None:
    with pytest.raises(type(exc), match="page 7"):
        client(raising(exc, after_start=True)).get("/")


async def test_a_client_that_went_away_is_no_failure() -> None:
    metrics = Metrics()
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    scope: Scope = {"type": "http", "method": "POST", "path": "/", "headers": []}
    await Envelope(raising(ClientDisconnect()), metrics)(scope, receive, send)
    assert sent == []
    assert 'method="POST",route="other",status="499"} 1.0' in exposition(metrics)


def test_requests_are_counted_under_their_template() -> None:
    metrics = Metrics()

    def name_route(scope: Scope) -> None:
        scope[ROUTE] = "/api/runs/{key}/"

    http = client(answering(before=name_route), metrics)
    for run in range(10):
        http.get(f"/api/runs/{run}/")
    assert 'sluice_http_requests_total{method="GET",route="/api/runs/{key}/",status="200"} 10.0' in exposition(metrics)
    assert metrics.in_flight == 0


def test_routes_of_fastapi_are_counted_under_their_template_and_guesses_under_other() -> None:
    metrics = Metrics()
    app = FastAPI()
    router = APIRouter(prefix="/plans")

    @router.get("/{name}")
    def plan(name: str) -> str:
        return name

    app.include_router(router)
    http = client(app, metrics)
    http.get("/plans/a")
    http.get("/plans/b")
    for guess in ("/.env", "/wp-login.php", "/.git/config"):
        http.get(guess)
    text = exposition(metrics)
    assert 'sluice_http_requests_total{method="GET",route="/plans/{name}",status="200"} 2.0' in text
    assert 'sluice_http_requests_total{method="GET",route="other",status="404"} 3.0' in text
    assert "wp-login" not in text


async def test_an_endless_answer_is_no_request_in_flight() -> None:
    metrics = Metrics()
    streaming, release = asyncio.Event(), asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scope[ROUTE], scope[STREAM] = "/api/messages/stream/", True
        await send({"type": "http.response.start", "status": 200, "headers": []})
        streaming.set()
        await release.wait()

    async def send(message: Message) -> None: ...

    async def receive() -> Message:
        return {"type": "http.request"}

    scope: Scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
    task = asyncio.create_task(Envelope(app, metrics)(scope, receive, send))
    await asyncio.wait_for(streaming.wait(), 2)
    assert (metrics.in_flight, metrics.streams) == (0, 1)
    assert 'route="/api/messages/stream/",status="200"} 1.0' in exposition(metrics)
    release.set()
    await task
    assert (metrics.in_flight, metrics.streams) == (0, 0)
    assert 'sluice_http_request_duration_seconds_count{method="GET",route="/api/messages/stream/"} 0.0' in exposition(
        metrics
    )


async def test_a_request_that_is_cancelled_at_shutdown_is_not_left_in_flight() -> None:
    metrics = Metrics()
    inside = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        inside.set()
        await asyncio.Event().wait()

    async def nothing(message: Message | None = None) -> Any: ...

    scope: Scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
    task = asyncio.create_task(Envelope(app, metrics)(scope, nothing, nothing))
    await inside.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert metrics.in_flight == 0


def test_the_public_url_wins_over_the_host_header() -> None:
    urls: list[str] = []
    app = answering(before=lambda scope: urls.append(absolute_url(scope, "/api/logs/")))
    client(app).get("/", headers={"Host": "lab:8002"})
    client(app, public_url="https://lab.example/swf-monitor").get("/", headers={"Host": "lab:8002"})
    assert urls == ["http://lab:8002/api/logs/", "https://lab.example/swf-monitor/api/logs/"]


def test_a_span_is_named_after_the_route() -> None:
    spans = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    app = FastAPI(telemetry={"tracer_provider": provider, "metrics": False, "logs": False})

    class Door:
        def __init__(self, app: ASGIApp) -> None: ...

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            scope[ROUTE] = "/api/runs/{key}/"
            await answering()(scope, receive, send)

    app.add_middleware(Door)
    app.add_middleware(Envelope, metrics=Metrics())
    TestClient(app).get("/api/runs/7/", headers={"traceparent": "00-" + "a" * 32 + "-" + "b" * 16 + "-01"})
    (span,) = spans.get_finished_spans()
    assert span.name == "GET /api/runs/{key}/"
    assert span.context is not None
    assert f"{span.context.trace_id:x}" == "a" * 32
