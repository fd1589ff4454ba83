"""The port that is not routed from outside: liveness, readiness, metrics."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import NamedTuple

import msgspec
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, ProcessCollector, generate_latest
from starlette.types import ASGIApp, Receive, Scope, Send

from sluice_core.health import Health
from sluice_core.metrics import LabelledRegistries, Metrics

__all__ = ["Observed", "admin_app", "combined_admin_app"]

JSON = "application/json"


class Observed(NamedTuple):
    """What the admin port shows of one service."""

    health: Health
    metrics: Metrics


class _Answer(NamedTuple):
    status: int
    media_type: str
    body: bytes


_Page = Callable[[], Awaitable[_Answer]]


def admin_app(service: Observed) -> ASGIApp:
    """Return the admin application of one service: ``/healthz``, ``/readyz``, ``/metrics``."""
    return _pages(
        _service_pages(service, "") | {"/metrics": partial(_metrics, _with_process(service.metrics.registry))}
    )


def combined_admin_app(services: Mapping[str, Observed]) -> ASGIApp:
    """Return the admin application of several services in one process.

    ``/metrics`` and ``/readyz`` speak of all of them, each sample with the label ``service``; what one of them says
    alone is below ``/<service>/``.
    """
    labelled = LabelledRegistries({name: service.metrics.registry for name, service in services.items()})
    pages: dict[str, _Page] = {
        "/healthz": _alive,
        "/readyz": partial(_all_ready, services),
        "/metrics": partial(_metrics, _with_process(labelled)),
    }
    for name, service in services.items():
        pages |= _service_pages(service, f"/{name}")
    return _pages(pages)


def _service_pages(service: Observed, prefix: str) -> dict[str, _Page]:
    return {
        f"{prefix}/healthz": _alive,
        f"{prefix}/readyz": partial(_ready, service),
        f"{prefix}/metrics": partial(_metrics, service.metrics.registry),
    }


def _with_process(inner: CollectorRegistry | LabelledRegistries) -> CollectorRegistry:
    """Add memory, CPU and open files of the process."""
    registry = CollectorRegistry()
    registry.register(inner)
    ProcessCollector(registry=registry)
    return registry


async def _alive() -> _Answer:
    return _Answer(200, JSON, b'{"status":"alive"}')


async def _ready(service: Observed) -> _Answer:
    report = await service.health.ready()
    return _Answer(200 if report.ok else 503, JSON, msgspec.json.encode(report.body()))


async def _all_ready(services: Mapping[str, Observed]) -> _Answer:
    reports = await asyncio.gather(*(service.health.ready() for service in services.values()))
    ok = all(report.ok for report in reports)
    body = {
        "status": "ready" if ok else "not ready",
        "services": {name: report.body() for name, report in zip(services, reports, strict=True)},
    }
    return _Answer(200 if ok else 503, JSON, msgspec.json.encode(body))


async def _metrics(registry: CollectorRegistry) -> _Answer:
    # Thousands of series take tens of milliseconds, which no request should wait for.
    return _Answer(200, CONTENT_TYPE_LATEST, await asyncio.to_thread(generate_latest, registry))


def _pages(pages: Mapping[str, _Page]) -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        page = pages.get(scope["path"])
        if page is None:
            answer = _Answer(404, JSON, msgspec.json.encode({"detail": "Not found.", "paths": sorted(pages)}))
        elif scope["method"] not in ("GET", "HEAD"):
            answer = _Answer(405, JSON, b'{"detail":"Only GET."}')
        else:
            answer = await page()
        headers = [
            (b"content-type", answer.media_type.encode()),
            (b"content-length", str(len(answer.body)).encode()),
            (b"cache-control", b"no-store"),
        ]
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": answer.body})

    return app
