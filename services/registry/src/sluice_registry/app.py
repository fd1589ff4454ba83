"""The registry's application."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial

from fastapi import FastAPI
from sqlalchemy import Connection

from sluice_core.auth.passwords import AskedPasswords
from sluice_core.bus import AGENTS, AUDIT, HEARTBEATS, MESSAGES, PCS, RUNS, Consumer, consume, keep_room
from sluice_core.bus.permissions import SERVICES
from sluice_core.database import DatabaseAway, after_commit
from sluice_core.outbox import Relay
from sluice_core.rest import Change
from sluice_core.retention import regularly
from sluice_core.service import Service, build
from sluice_registry import tables
from sluice_registry.consumer import AuditConsumer, HeartbeatConsumer
from sluice_registry.events import AgentEvents
from sluice_registry.handlers import audit as audit_door
from sluice_registry.handlers import counters, heartbeat, index, login, mcp, memory, oauth, oidc, schema, tokens
from sluice_registry.handlers import namespaces as namespace_doors
from sluice_registry.handlers import users as user_doors
from sluice_registry.handlers.mcp_socket import McpSockets
from sluice_registry.resources import SYSTEMAGENTS, WORKERS
from sluice_registry.service.audit import Audit
from sluice_registry.service.counters import Counters
from sluice_registry.service.facility import Client, FacilityLogins
from sluice_registry.service.hashes import Hashes
from sluice_registry.service.heartbeats import Heartbeats
from sluice_registry.service.identity import TokenIssuer
from sluice_registry.service.logins import Logins
from sluice_registry.service.mcp import MessageControl
from sluice_registry.service.memory import Memory
from sluice_registry.service.namespaces import Namespaces
from sluice_registry.service.projection import Projection
from sluice_registry.service.users import Users
from sluice_registry.settings import Settings

__all__ = ["create_app"]

BEATS = Consumer(stream=HEARTBEATS.name, durable="registry")
# Consumers of one process are told apart by their names.
RECORDS = Consumer(stream=AUDIT.name, durable="registry-audit")


def create_app(settings: Settings | None = None) -> FastAPI:
    """Return the application; nothing connects before its lifespan begins.

    Parameters
    ----------
    settings
        Read from the environment when absent.
    """
    settings = settings or Settings()
    service = Service("registry", settings, keeps=SERVICES["registry"].keep)
    relay = Relay(service.database, service.bus, tables.outbox)
    service.metrics.outbox(relay)
    events = AgentEvents(relay.wake, service.bus.publish)
    heartbeats = Heartbeats(
        service.database, events, stale_after=settings.stale_after, waiting=settings.heartbeats_waiting
    )
    beats = HeartbeatConsumer(heartbeats, service.zone)

    def changed(connection: Connection, change: Change) -> None:
        events.changed(connection, change.before, change.after)
        after_commit(connection, heartbeats.look_soon)

    issuer = TokenIssuer(
        service.database,
        service.keyring,
        passphrase=settings.key_passphrase,
        admin_token=settings.admin_token,
        delay=settings.key_delay,
        retention=settings.token_retention,
        session_retention=settings.session_retention,
        changed=lambda: projection.wake(),
    )
    projection = Projection(service.bus, issuer.refresh, issuer.keys.published)
    hashes = Hashes()
    logins = Logins(
        service.database, issuer, hashes, lifetime=settings.session_lifetime, longest=settings.session_longest
    )
    service.auth.passwords = AskedPasswords(logins.verify, service.keyring, settings.shared.trusted_proxies)
    client = Client(
        settings.oidc_client_id,
        None if settings.oidc_client_secret is None else settings.oidc_client_secret.get_secret_value(),
        settings.oidc_scopes,
    )
    at_facility = None
    if service.facility is not None and client.client_id:
        at_facility = FacilityLogins(service.facility, logins, issuer, service.keyring, client)
    users = Users(service.database, issuer, hashes)
    namespaces = Namespaces(service.database)
    control = MessageControl(service.database, events, service.zone)
    sockets = McpSockets(
        control,
        service.auth,
        service.draining,
        service.metrics,
        connections=settings.mcp_connections,
        idle=settings.mcp_idle,
        rate=settings.mcp_rate,
    )
    audit = Audit(service.database, retention=settings.audit_retention)
    records = AuditConsumer(audit)
    dialogues = Memory(service.database, retention=settings.ai_memory_retention)

    @asynccontextmanager
    async def wire(service: Service) -> AsyncIterator[None]:
        await issuer.start()
        tasks = service.supervisor
        tasks.spawn("projection", projection.run)
        tasks.spawn("expired tokens", issuer.tidy_regularly)
        tasks.spawn("outbox", relay.run)
        tasks.spawn("room for agents' changes", partial(keep_room, service.bus, AGENTS))
        tasks.spawn("heartbeats", heartbeats.run)
        tasks.spawn("announcement of heartbeats", events.announce)
        tasks.spawn("sweep", partial(heartbeats.sweep_regularly, settings.sweep_every))
        tasks.spawn("retention of dialogues", partial(regularly, service.database, dialogues.forget))
        tasks.spawn("retention of audit records", partial(regularly, service.database, audit.forget))
        tasks.spawn("room for changes of configurations", partial(keep_room, service.bus, PCS))
        tasks.spawn("room for audit records", partial(keep_room, service.bus, AUDIT))
        # 5,000 messages a second are 5 MB: a fifth of the stream takes 40 s.
        tasks.spawn("room for messages", partial(keep_room, service.bus, MESSAGES, every=10.0))
        tasks.spawn("room for changes of runs", partial(keep_room, service.bus, RUNS))
        work = partial(consume, service.bus, BEATS, beats.handle, tasks.stopping, outage=(DatabaseAway,))
        tasks.spawn("heartbeats from the bus", work, graceful=True)
        keep = partial(consume, service.bus, RECORDS, records.handle, tasks.stopping, outage=(DatabaseAway,))
        tasks.spawn("audit records from the bus", keep, graceful=True)
        yield

    return build(
        service,
        title="Sluice registry",
        package="sluice_registry",
        resources=(replace(SYSTEMAGENTS, on_change=changed), WORKERS),
        endpoints=(
            *heartbeat.endpoints(heartbeats, service.zone),
            *counters.endpoints(service.database, Counters(service.database)),
            *namespace_doors.endpoints(namespaces),
            *mcp.endpoints(control),
            *memory.endpoints(dialogues, is_open=settings.ai_memory_open),
            *index.endpoints(),
        ),
        routers=(
            namespace_doors.router(namespaces),
            tokens.router(issuer, lifetime=settings.token_lifetime),
            user_doors.router(users),
            audit_door.router(audit),
            login.router(logins, settings.shared.trusted_proxies, facility=at_facility is not None),
            oidc.router(at_facility),
            oauth.router(settings.auth0_domain),
            sockets.router(),
            schema.router(),
        ),
        wire=wire,
    )
