"""The application of the stream service."""

import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from fastapi import FastAPI

from sluice_core.bus import DLQ, INBOUND, MESSAGES, BusError, Consumer, consume
from sluice_core.database import DatabaseAway
from sluice_core.retention import regularly
from sluice_core.service import Service, build
from sluice_stream.bridge.bridge import Bridge
from sluice_stream.bridge.broker import Address, Tls
from sluice_stream.bridge.metrics import BridgeMetrics, IntakeMetrics
from sluice_stream.handlers import letters as letter_doors
from sluice_stream.handlers import messages as message_doors
from sluice_stream.handlers import stream
from sluice_stream.inbound import Inbound
from sluice_stream.intake import Intake
from sluice_stream.lease import Lease
from sluice_stream.letters import Letters
from sluice_stream.peers import Runs
from sluice_stream.recorder import Recorder
from sluice_stream.resources import SUBSCRIBERS, workflow_messages
from sluice_stream.sending import Sender
from sluice_stream.settings import Settings
from sluice_stream.sse.wiring import Sse

__all__ = ["create_app"]

RECORDED = Consumer(stream=MESSAGES.name, durable="stream-recorder")
UNREAD = Consumer(stream=INBOUND.name, durable="stream-inbound")
# Up to 8 MB each.
DEAD = Consumer(stream=DLQ.name, durable="stream-dlq", batch=50, max_ack_pending=200)


def create_app(settings: Settings | None = None) -> FastAPI:
    """Return the application; nothing connects before its lifespan begins.

    Parameters
    ----------
    settings
        Read from the environment when absent.
    """
    settings = settings or Settings()
    shared = settings.shared
    service = Service("stream", settings)
    followed = settings.activemq_destinations
    intake = Intake(service.bus)
    recorder = Recorder(service.database, retention=settings.message_retention)
    inbound = Inbound(intake)
    letters = Letters(
        service.database,
        service.bus,
        intake,
        retention=settings.dead_letter_retention,
        most=settings.dead_letters,
    )
    sender = Sender(service.bus, intake, followed, has_broker=bool(settings.activemq_host))
    runs = Runs(shared.peer("runs"), shared.service_token)
    service.metrics.registry.register(IntakeMetrics(intake))
    bridge = _bridge(service, settings, intake)
    if bridge is not None:
        service.metrics.registry.register(BridgeMetrics(bridge.state))
        service.health.add("bridge", bridge.state.check)

    sse = Sse(service, settings)

    @asynccontextmanager
    async def wire(service: Service) -> AsyncIterator[None]:
        tasks = service.supervisor
        tasks.spawn("retention of messages", partial(regularly, service.database, recorder.forget))
        tasks.spawn("retention of dead letters", partial(regularly, service.database, letters.forget))
        record = partial(consume, service.bus, RECORDED, recorder.handle, tasks.stopping, outage=(DatabaseAway,))
        tasks.spawn("recorder", record, graceful=True)
        keep = partial(consume, service.bus, DEAD, letters.handle, tasks.stopping, outage=(DatabaseAway,))
        tasks.spawn("dead letters", keep, graceful=True)
        take = partial(consume, service.bus, UNREAD, inbound.handle, tasks.stopping, outage=(BusError,))
        tasks.spawn("messages of programs", take, graceful=True)
        if bridge is not None:
            tasks.spawn("bridge", bridge.run)
        try:
            async with sse.running():
                yield
        finally:
            runs.close()

    return build(
        service,
        title="Sluice stream",
        package="sluice_stream",
        resources=(SUBSCRIBERS, workflow_messages(runs.exists)),
        endpoints=stream.endpoints(sse, service.auth, settings),
        routers=(message_doors.router(sender, followed[0]), letter_doors.router(letters)),
        wire=wire,
    )


def _bridge(service: Service, settings: Settings, intake: Intake) -> Bridge | None:
    if not (settings.bridge and settings.activemq_host):
        return None
    tls = None
    if settings.activemq_use_ssl:
        pair = (settings.activemq_ssl_cert_file, settings.activemq_ssl_key_file)
        certificate, key = map(Path, pair) if all(pair) else (None, None)
        tls = Tls(Path(settings.activemq_ssl_ca_certs), certificate, key)
    address = Address(
        settings.activemq_host,
        settings.activemq_port,
        settings.activemq_user,
        settings.activemq_password.get_secret_value(),
        settings.activemq_client_id,
        tls,
    )
    holder = f"{socket.gethostname()}:{os.getpid()}"
    return Bridge(
        service.bus,
        intake,
        address,
        settings.activemq_destinations,
        Lease(service.bus, "bridge", holder, ttl=int(settings.bridge_lease.total_seconds())),
        pulse_every=settings.pulse_every.total_seconds(),
        pulse_topic=settings.pulse_topic,
    )
