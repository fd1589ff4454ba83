"""The application of the run service."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from fastapi import FastAPI

from sluice_core.outbox import Relay
from sluice_core.service import Service, build
from sluice_runs import tables
from sluice_runs.handlers.creation import Rows
from sluice_runs.resources import RESOURCES
from sluice_runs.service.creation import NATURAL, Creation
from sluice_runs.service.events import Events
from sluice_runs.settings import Settings

__all__ = ["create_app"]


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
    resources = {
        kind: replace(resource, on_change=events.hook(kind, resource.key)) for kind, resource in RESOURCES.items()
    }

    accept = settings.accept_repeat
    creation = {
        kind: Creation(kind, resources[kind], service.database, service.zone, events, accept_repeat=accept)
        for kind in NATURAL
    }
    doors = [Rows(each, service.database, batches=kind != "run") for kind, each in creation.items()]

    @asynccontextmanager
    async def wire(service: Service) -> AsyncIterator[None]:
        service.supervisor.spawn("outbox", relay.run)
        yield

    return build(
        service,
        title="Sluice runs",
        package="sluice_runs",
        resources=tuple(resources.values()),
        endpoints=tuple(door.endpoint() for door in doors),
        wire=wire,
    )
