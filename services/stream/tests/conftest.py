import contextlib
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import settings

from sluice_core.testing import StartNats, eventually, servers
from sluice_core.testing.activemq import PASSWORD, USER, Broker
from sluice_core.testing.apps import AppMaker
from sluice_core.testing.serving import serving
from sluice_core.testing.stomp import Spot
from sluice_core.testing.tokens import Tokens

from .work import Nats, Stream, start_bus

# ./task fuzz
settings.register_profile("long", max_examples=5000, stateful_step_count=100, deadline=None)

Run = Callable[..., Stream]
OpenDoor = Callable[..., tuple[Stream, Spot]]


@pytest.fixture(scope="module")
def package() -> str:
    return "sluice_stream"


@pytest.fixture
def nats(start_nats: StartNats) -> Nats:
    """A nats-server with all streams; the test's own."""
    return start_bus(start_nats)


@pytest.fixture
def topic() -> str:
    """A topic of the broker; the test's own."""
    return f"/topic/t-{uuid4().hex}"


@pytest.fixture
def run(make_app: AppMaker, nats: Nats, tokens: Tokens) -> Iterator[Run]:
    """Run the service behind a real port until the test ends; the broker, when given, with the test's own client id."""
    with contextlib.ExitStack() as stack:

        def start(broker: Broker | None = None, topic: str = "/topic/epictopic", **settings: Any) -> Stream:
            if broker is not None:
                host, port = broker.address
                settings = {
                    "activemq_host": host,
                    "activemq_port": port,
                    "activemq_user": USER,
                    "activemq_password": PASSWORD,
                    "activemq_destinations": topic,
                    "activemq_client_id": f"bridge-of-{topic}",
                    "bridge_lease": "2s",
                    "pulse_every": "0.2s",
                    "pulse_topic": f"{topic}.pulse",
                    **settings,
                }
            app = make_app(nats_url=nats.url(), **settings)
            lives = stack.enter_context(contextlib.ExitStack())
            stream = Stream(lives.enter_context(serving(app)), tokens.header("admin"), lives.close)
            eventually(stream.ready)
            return stream

        yield start


@pytest.fixture
def open_door(run: Run, tokens: Tokens) -> OpenDoor:
    """Run the service with its STOMP door open, and with settings of the test's choice."""

    def start(**settings: Any) -> tuple[Stream, Spot]:
        stream = run(**{"stomp_port": 0, "stomp_host": "127.0.0.1", "stomp_lease": "2s", **settings})
        return stream, at_the_door(stream, tokens)

    return start


@pytest.fixture(scope="module")
def shared_door(package: str, service_database: str, tokens: Tokens) -> Iterator[Spot]:
    """A door that the tests of a module share: each takes destinations and client ids of its own."""
    with contextlib.ExitStack() as stack:
        nats = start_bus(lambda authorization="": stack.enter_context(servers.nats(authorization)))
        app = AppMaker(package, service_database, tokens)(nats_url=nats.url(), stomp_port=0, stomp_host="127.0.0.1")
        stream = Stream(stack.enter_context(serving(app)), tokens.header("admin"), stack.close)
        eventually(stream.ready)
        yield at_the_door(stream, tokens)


def at_the_door(stream: Stream, tokens: Tokens) -> Spot:
    """Return where the door of a service is, once it is open."""
    port = eventually(stream.stomp_port, 15)
    return Spot(("127.0.0.1", port), "admin", tokens.header("admin")["Authorization"].split()[1])


@pytest.fixture(params=["door", "activemq"])
def spot(request: pytest.FixtureRequest) -> Spot:
    """The door, and a real ActiveMQ: what agents may expect of both."""
    if request.param == "door":
        opened: Spot = request.getfixturevalue("shared_door")
        return opened
    there: Broker = request.getfixturevalue("broker")
    return Spot(there.address, USER, PASSWORD)


@pytest.fixture
def queue() -> str:
    """A queue; the test's own."""
    return f"/queue/q-{uuid4().hex}"
