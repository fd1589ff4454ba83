"""The application of the run service."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial

from fastapi import FastAPI

from sluice_core.bus import AGENTS as AGENTS_STREAM
from sluice_core.bus import MESSAGES as MESSAGES_STREAM
from sluice_core.bus import Consumer, consume
from sluice_core.database import DatabaseAway
from sluice_core.outbox import Relay
from sluice_core.service import Service, build
from sluice_runs import tables
from sluice_runs.consumer import AgentConsumer, MessageConsumer
from sluice_runs.handlers import stale as stale_door
from sluice_runs.handlers.creation import Rows
from sluice_runs.handlers.lives import router
from sluice_runs.resources import RESOURCES
from sluice_runs.service.accounts import Reports
from sluice_runs.service.completing import regenerated_workflow
from sluice_runs.service.counters import Counters
from sluice_runs.service.creation import NATURAL, Creation
from sluice_runs.service.events import Events
from sluice_runs.service.life import Lives, both
from sluice_runs.service.stale import Stale
from sluice_runs.settings import Settings

__all__ = ["create_app"]

MESSAGES = Consumer(stream=MESSAGES_STREAM.name, durable="runs")
# Consumers of one process are told apart by their names.
AGENTS = Consumer(stream=AGENTS_STREAM.name, durable="runs-agents")


def create_app(settings: Settings | None = None) -> FastAPI:
    """Return the application; nothing connects before its lifespan begins.

    Parameters
    ----------
    settings
        Read from the environment when absent.
    """
    settings = settings or Settings()
    service = Service("runs", settings)
    relay = Relay(service.database, service.bus, tables.outbox)
    service.metrics.outbox(relay)
    events = Events(relay.wake)
    lives = Lives(RESOURCES, events)
    own = {"execution": lives.terminated, "state": lives.deleted, "workflow": regenerated_workflow}
    resources = {}
    for kind, resource in RESOURCES.items():
        told = events.hook(kind, resource.key)
        resources[kind] = replace(resource, on_change=both(told, own[kind]) if kind in own else told)
    messages = MessageConsumer(service.database, lives, service.zone)

    accept = settings.accept_repeat
    creation = {
        kind: Creation(kind, resources[kind], service.database, service.zone, events, accept_repeat=accept)
        for kind in NATURAL
    }
    doors = [Rows(each, service.database, batches=kind != "run") for kind, each in creation.items()]

    counters = Counters(RESOURCES["state"], service.database, events)
    reports = Reports(service.database)
    ages = {
        "execution": settings.execution_stale_after,
        "state": settings.state_stale_after,
        "stf": settings.stf_stale_after,
    }
    stale = Stale(service.database, events, ages)
    agents = AgentConsumer(service.database, stale)

    @asynccontextmanager
    async def wire(service: Service) -> AsyncIterator[None]:
        tasks = service.supervisor
        tasks.spawn("outbox", relay.run)
        if settings.follow_messages:
            work = partial(consume, service.bus, MESSAGES, messages.handle, tasks.stopping, outage=(DatabaseAway,))
            tasks.spawn("messages about runs", work, graceful=True)
        seen = partial(consume, service.bus, AGENTS, agents.handle, tasks.stopping, outage=(DatabaseAway,))
        tasks.spawn("agents", seen, graceful=True)
        tasks.spawn("what is stale", partial(stale.look_regularly, settings.stale_every))
        tasks.spawn("retention of messages", partial(stale.tidy_regularly, settings.messages_retention))
        yield

    return build(
        service,
        title="Sluice runs",
        package="sluice_runs",
        resources=tuple(resources.values()),
        endpoints=(*(door.endpoint() for door in doors), stale_door.endpoint(service.database, stale)),
        routers=(router(service.database, counters, reports, service.zone),),
        wire=wire,
    )
