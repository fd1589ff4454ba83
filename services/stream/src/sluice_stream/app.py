"""The application of the stream service."""

import os
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
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
from sluice_stream.door.connection import Bounds
from sluice_stream.door.door import Door, Place
from sluice_stream.door.exchange import Rules
from sluice_stream.door.frames import Limits
from sluice_stream.door.guard import Guard
from sluice_stream.door.metrics import DoorMetrics
from sluice_stream.handlers import letters as letter_doors
from sluice_stream.handlers import messages as message_doors
from sluice_stream.handlers import stomp as stomp_door
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
    door = _door(service, settings, intake)
    has_broker = bool(settings.activemq_host) or door is not None
    sender = Sender(service.bus, intake, followed, has_broker=has_broker)
    runs = Runs(shared.peer("runs"), shared.service_token)
    service.metrics.registry.register(IntakeMetrics(intake))
    bridge = _bridge(service, settings, intake)
    if bridge is not None:
        service.metrics.registry.register(BridgeMetrics(bridge.state))
        service.health.add("bridge", bridge.state.check)
    if door is not None:
        service.metrics.registry.register(DoorMetrics(door))
        service.health.add("stomp", door.check)

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
        if door is not None:
            tasks.spawn("STOMP door", door.run)
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
        routers=(
            message_doors.router(sender, followed[0]),
            letter_doors.router(letters),
            stomp_door.router(service.bus, door),
        ),
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
    return Bridge(
        service.bus,
        intake,
        address,
        settings.activemq_destinations,
        _lease(service, "bridge", settings.bridge_lease),
        pulse_every=settings.pulse_every.total_seconds(),
        pulse_topic=settings.pulse_topic,
    )


def _door(service: Service, settings: Settings, intake: Intake) -> Door | None:
    places: list[Place] = []
    if settings.stomp_port is not None:
        places.append(Place(settings.stomp_host, settings.stomp_port, settings.stomp_fd))
    if settings.stomp_tls_port is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(settings.stomp_tls_cert, settings.stomp_tls_key)
        places.append(Place(settings.stomp_host, settings.stomp_tls_port, settings.stomp_tls_fd, context))
    if not places:
        return None
    return Door(
        service.bus,
        intake,
        Guard(service.auth),
        _lease(service, "stomp", settings.stomp_lease),
        places,
        rules=Rules(
            frozenset(settings.activemq_destinations),
            frozenset(settings.stomp_result_queues),
            frozenset(settings.stomp_shared_queues),
        ),
        bounds=Bounds(
            Limits(body=settings.stomp_body),
            settings.stomp_subscriptions,
            settings.stomp_prefetch,
            settings.stomp_buffer,
        ),
        connections=settings.stomp_connections,
        durables=settings.stomp_durables,
        # A bridge brings it to the broker that is configured.
        outbound=not settings.activemq_host,
    )


def _lease(service: Service, key: str, ttl: timedelta) -> Lease:
    return Lease(service.bus, key, f"{socket.gethostname()}:{os.getpid()}", ttl=int(ttl.total_seconds()))
