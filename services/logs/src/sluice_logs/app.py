"""The application of the log service."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial

from fastapi import FastAPI

from sluice_core.bus import LOGS as STREAM
from sluice_core.bus import Consumer, consume
from sluice_core.database import DatabaseAway
from sluice_core.http.rate import SourceRate
from sluice_core.service import Service, build
from sluice_logs.aside import Aside, LogConsumer
from sluice_logs.days import Days
from sluice_logs.handlers import Records, endpoints
from sluice_logs.records import Reader
from sluice_logs.resources import LOGS
from sluice_logs.service import Logs
from sluice_logs.settings import Settings
from sluice_logs.writer import LineFull, Writer

__all__ = ["create_app"]

# Messages of up to a megabyte: 16 make a transaction, and as many wait.
INPUTS = Consumer(stream=STREAM.name, durable="logs", batch=16, max_ack_pending=64)


def create_app(settings: Settings | None = None) -> FastAPI:
    """Return the application; nothing connects before its lifespan begins.

    Parameters
    ----------
    settings
        Read from the environment when absent.
    """
    settings = settings or Settings()
    service = Service("logs", settings)
    days = Days(service.database, settings.retention)
    writer = Writer(service.database, days, later=Aside(service.bus).keep, waiting=settings.waiting_bytes)
    reader = Reader(service.zone)
    rate = None
    if settings.post_rate:
        rate = SourceRate(settings.post_rate, trusted=settings.shared.trusted_proxies)
    records = Records(writer, reader, is_open=settings.anonymous_post, rate=rate)
    inputs = LogConsumer(writer, reader)

    @asynccontextmanager
    async def wire(service: Service) -> AsyncIterator[None]:
        await service.database.run(days.make_ahead)
        await writer.open()
        tasks = service.supervisor
        tasks.spawn("days", days.tidy_regularly)
        tasks.spawn("writer", writer.run)
        work = partial(consume, service.bus, INPUTS, inputs.handle, tasks.stopping, outage=(DatabaseAway, LineFull))
        tasks.spawn("records from the bus", work, graceful=True)
        yield

    return build(
        service,
        title="Sluice logs",
        package="sluice_logs",
        resources=(replace(LOGS, create_open=settings.anonymous_post),),
        endpoints=endpoints(service.database, Logs(service.database), records),
        wire=wire,
    )
