import contextlib
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest

from sluice_core.testing import StartNats, eventually
from sluice_core.testing.activemq import PASSWORD, USER, Broker
from sluice_core.testing.apps import AppMaker
from sluice_core.testing.serving import serving
from sluice_core.testing.tokens import Tokens

from .work import Nats, Stream, start_bus

Run = Callable[..., Stream]


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
