"""``GET /api/stomp/``: the STOMP door as it is now."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field

from sluice_core.auth import Identity, Scope
from sluice_core.auth.fastapi import REFUSALS, require
from sluice_core.bus import Bus, BusError
from sluice_core.errors import Unavailable
from sluice_core.http.answers import json_response
from sluice_core.subjects import durable, queued
from sluice_stream.door.connection import Connection
from sluice_stream.door.depths import Depths, look
from sluice_stream.door.door import Door

__all__ = ["router"]

PATH = "/api/stomp/"


class Listening(BaseModel):
    """One subscription."""

    id: str
    destination: str
    ack: str
    selector: str
    durable: str = Field(description="Its name; empty for one that ends with its connection")
    unacknowledged: int


class Client(BaseModel):
    """One connection."""

    client_id: str
    user: str
    address: str
    version: str
    since: datetime
    received: int = Field(description="Frames")
    sent: int = Field(description="Frames")
    unread: int = Field(description="Bytes that wait for it to read")
    subscriptions: list[Listening]


class Place(BaseModel):
    """One destination that somebody listens to, or where something waits."""

    destination: str
    namespace: str | None = Field(description="Of a queue that namespaces share: whose part this is")
    waiting: int = Field(description="Messages that nobody has acknowledged")
    subscribers: int
    unacknowledged: int = Field(description="Of those that wait, what a subscriber has")


class Kept(BaseModel):
    """One durable subscription."""

    client_id: str
    name: str
    user: str
    destination: str
    selector: str
    waiting: int
    subscribed: bool


class Stomp(BaseModel):
    """The door."""

    active: bool = Field(description="Whether this process has it; only the one that has it knows its clients")
    ports: list[int]
    connections: list[Client]
    destinations: list[Place]
    durables: list[Kept]


def router(bus: Bus, door: Door | None) -> APIRouter:
    """Return the one path.

    Parameters
    ----------
    door
        That of this process; None where it has none.
    """
    routes = APIRouter(tags=["stomp"])

    @routes.get(
        PATH,
        summary="The STOMP door: clients, destinations and what waits",
        operation_id="stomp_retrieve",
        response_model=Stomp,
        responses=REFUSALS | {503: {"description": "NATS is away"}},
    )
    async def stomp(_: Annotated[Identity, require(Scope.STREAM_READ)]) -> Response:
        try:
            depths = await look(bus)
        except BusError:
            raise Unavailable("NATS is away.", headers={"Retry-After": "2"}) from None
        return json_response(_shown(door, depths).model_dump(mode="json"))

    return routes


def _shown(door: Door | None, depths: Depths) -> Stomp:
    if door is None:
        places = [
            Place(destination=each.queue, namespace=each.namespace, waiting=count, subscribers=0, unacknowledged=0)
            for each, count in sorted(depths.queues.items(), key=str)
        ]
        return Stomp(active=False, ports=[], connections=[], destinations=places, durables=[])
    return Stomp(
        active=door.state.active,
        ports=list(door.state.ports),
        connections=[_client(each) for each in sorted(door.connections, key=lambda each: each.since)],
        destinations=_places(door, depths),
        durables=_durables(door, depths),
    )


def _client(connection: Connection) -> Client:
    return Client(
        client_id=connection.client_id,
        user=connection.identity.subject,
        address=connection.peer[0],
        version=connection.version,
        since=connection.since,
        received=connection.received,
        sent=connection.sent,
        unread=connection.backlog,
        subscriptions=[
            Listening(
                id=each.ask.id,
                destination=each.ask.destination,
                ack=each.ask.mode,
                selector=each.ask.selector,
                durable=each.ask.durable,
                unacknowledged=each.waiting,
            )
            for each in connection.subscriptions.values()
        ],
    )


def _places(door: Door, depths: Depths) -> list[Place]:
    used = door.exchange.in_use()
    listened = dict.fromkeys(door.exchange.queues(), 0)
    found = [
        Place(destination=topic, namespace=None, waiting=0, subscribers=count, unacknowledged=0)
        for topic, count in sorted(door.exchange.topics().items())
    ]
    for (queue, namespace), count in sorted(
        {**listened, **{(each.queue, each.namespace): count for each, count in depths.queues.items()}}.items(), key=str
    ):
        takers, out = used.get(queued(queue, namespace), (0, 0))
        found.append(
            Place(destination=queue, namespace=namespace, waiting=count, subscribers=takers, unacknowledged=out)
        )
    return found


def _durables(door: Door, depths: Depths) -> list[Kept]:
    used = door.exchange.in_use()
    return [
        Kept(
            client_id=each.client_id,
            name=each.name,
            user=each.owner,
            destination=each.destination,
            selector=each.selector,
            waiting=depths.durables.get(each.key, 0),
            subscribed=durable(each.key) in used,
        )
        for each in sorted(door.exchange.durables, key=lambda each: (each.client_id, each.name))
    ]
