"""What all agents do: register, listen, beat, say goodbye (swf-clients.md 4)."""

import os
import queue
import socket
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, ClassVar, Self

from sluice_simulator.api import Api
from sluice_simulator.bus import TOPIC, Address, BusConnection, Received
from sluice_simulator.errors import ApiError, BusAway

__all__ = ["Agent", "Site", "now"]

BEAT = 60.0
# Seconds after which an agent looks whether it shall end.
GLANCE = 0.1
# Problems that are kept.
MOST = 100

Message = Mapping[str, Any]


@dataclass(frozen=True)
class Site:
    """Where agents find everything, and for whom they work.

    Attributes
    ----------
    url
        Of the platform, prefix included.
    batches
        Whether to use what the platform has and its forerunner had not: many rows in a request, and increments.
    """

    url: str
    token: str | None
    broker: Address
    namespace: str
    user: str
    batches: bool = False


def now() -> str:
    """Return the time as agents write it; with its offset, so that it means the same everywhere."""
    return datetime.now(UTC).isoformat()


class Agent(ABC):
    """One agent: a connection to the broker, one to the platform, and a thread that does what messages say.

    Parameters
    ----------
    run
        Number of the run that it heeds; None: any.
    """

    kind: ClassVar[str]
    """Agent type, as it is sent."""
    destinations: tuple[str, ...] = (TOPIC,)
    """What it subscribes to."""
    heeds: ClassVar[frozenset[str]] = frozenset()
    """Types of messages that it reacts to; the others it does not keep."""

    def __init__(self, site: Site, run: int | None = None) -> None:
        self.site = site
        self.run = run
        self.name = ""
        self.problems: list[str] = []
        self.stopping = threading.Event()
        self.api = Api(site.url, site.token, self.stopping)
        self._thread = threading.Thread(target=self._live, name=self.kind)
        self._state = "STARTING"
        self._beaten = 0.0
        self._bus: BusConnection | None = None

    def __enter__(self) -> Self:
        """Register and begin to listen.

        Raises
        ------
        ApiError
            The platform does not want it.
        BusAway
            The broker does not.
        """
        number = self.api.post("/state/next-agent-id/")["agent_id"]
        self.name = f"{self.kind.lower()}-agent-{self.site.user}-{number}"
        self._bus = BusConnection(
            self.site.broker, self.name, self.destinations, namespace=self.site.namespace, wanted=self._wanted
        )
        try:
            self._bus.open()
            for destination in self.destinations:
                self._subscribe(destination)
            self._state = "READY"
            self.beat()
        except BaseException:
            self._bus.close()
            raise
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        self._thread.join()
        self._state = "EXITED"
        self._try(lambda: self.beat(status="EXITED", words="Agent shutdown"))
        assert self._bus is not None
        self._bus.close()
        self.api.close()

    @abstractmethod
    def handle(self, message: Message) -> None:
        """Do what a message says.

        Raises
        ------
        ApiError, BusAway
            It could not; the message is over all the same.
        """

    def send(self, destination: str, message: Message, **headers: str) -> None:
        """Send a message as this agent."""
        assert self._bus is not None
        self._bus.send(destination, {**message, "sender": self.name, "namespace": self.site.namespace}, **headers)

    def beat(self, status: str = "OK", words: str = "MQ: connected", **more: Any) -> None:
        """Send a heartbeat."""
        self._beaten = time.monotonic()
        self.api.post(
            "/systemagents/heartbeat/",
            {
                "instance_name": self.name,
                "agent_type": self.kind,
                "status": status,
                "description": f"{self.kind} agent. {words}",
                "mq_connected": True,
                "pid": os.getpid(),
                "hostname": socket.gethostname(),
                "operational_state": self._state,
                "namespace": self.site.namespace,
                **more,
            },
        )

    def create_many(self, path: str, rows: Sequence[Message]) -> None:
        """Create rows by one request.

        Raises
        ------
        ApiError
            Not all are there now.
        """
        rejected = self.api.post(path, rows)["rejected"]
        if rejected:
            raise ApiError(f"POST {path}: {len(rejected)} of {len(rows)} rows: {rejected[0]['errors']}", 400)

    def _subscribe(self, destination: str) -> None:
        try:
            self.api.post(
                "/subscribers/",
                {
                    "subscriber_name": f"{self.name}-{destination}",
                    "description": f"{self.kind} agent subscribing to {destination}",
                    "is_active": True,
                    "fraction": 1.0,
                },
            )
        except ApiError as exc:
            said = str(exc).lower()
            if exc.status != 400 or "already exists" not in said or "subscriber" not in said:
                raise

    def _wanted(self, received: Received) -> bool:
        message = received.content
        if message.get("msg_type") not in self.heeds:
            return False
        namespace = message.get("namespace")
        if namespace and namespace != self.site.namespace:
            return False
        return self.run is None or "run_id" not in message or str(message["run_id"]) == str(self.run)

    def _live(self) -> None:
        assert self._bus is not None
        while not self.stopping.is_set():
            if time.monotonic() >= self._beaten + BEAT:
                self._try(self.beat)
            self._try(self._bus.mend)
            try:
                message = self._bus.received.get(timeout=GLANCE).content
            except queue.Empty:
                continue
            self._try(partial(self.handle, message))

    def _try(self, work: Callable[[], None]) -> None:
        try:
            work()
        except (ApiError, BusAway) as exc:
            self._regret(str(exc))
        except (LookupError, TypeError, ValueError) as exc:
            # Said by somebody else in our namespace.
            self._regret(f"a message that cannot be followed: {exc!r}")

    def _regret(self, problem: str) -> None:
        if len(self.problems) < MOST:
            self.problems.append(f"{self.name}: {problem}")
