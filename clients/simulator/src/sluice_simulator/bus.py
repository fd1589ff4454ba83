"""STOMP as agents speak it (swf-clients.md 7), to a broker or to the platform's own door.

stomp.py's own ways to reconnect leave heart-beats that stop or double, so a connection that broke is replaced.
"""

import json
import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import stomp  # type: ignore[import-untyped]

from sluice_simulator.errors import BusAway

__all__ = ["CONTROL", "RESULTS", "SLICES", "TOPIC", "WORKERS", "Address", "BusConnection", "Received"]

# What it has to say is in `BusAway`.
logging.getLogger("stomp.py").setLevel(logging.CRITICAL)

TOPIC = "/topic/epictopic"
WORKERS = "/topic/panda.workers"
SLICES = "/topic/panda.slices"
RESULTS = "/queue/panda.results.fastprocessing"
CONTROL = "/queue/workflow_control"

HEARTBEATS = (30_000, 30_000)
TIMEOUT = 10.0
# Tries to connect, and seconds between them.
TRIES, PAUSE = 30, 1.0
# Messages in hand; beyond it nothing more is read from the broker.
MOST = 10_000


@dataclass(frozen=True)
class Address:
    """Where the broker is and who we are there."""

    host: str
    port: int
    user: str = "admin"
    password: str = field(default="admin", repr=False)
    ca: str = ""
    """PEM file of whoever vouches for the broker; empty: no TLS."""


@dataclass(frozen=True)
class Received:
    """A message that came."""

    destination: str
    content: Mapping[str, Any]


class _Listener(stomp.ConnectionListener):  # type: ignore[misc]
    """Takes what stomp.py's reading thread has read."""

    def __init__(self, take: Callable[[Received], None]) -> None:
        self.connected = threading.Event()
        self.broken = threading.Event()
        self.farewell = threading.Event()
        self.reason = "no answer"
        self._take = take

    def on_connected(self, frame: Any) -> None:
        self.connected.set()

    def on_error(self, frame: Any) -> None:
        self.reason = str(frame.headers.get("message", "refused"))
        self.broken.set()

    def on_receipt(self, frame: Any) -> None:
        self.farewell.set()

    def on_disconnected(self) -> None:
        self.broken.set()

    def on_heartbeat_timeout(self) -> None:
        self.broken.set()

    def on_message(self, frame: Any) -> None:
        try:
            content = json.loads(frame.body)
        except (ValueError, RecursionError):
            return
        if isinstance(content, dict):
            self._take(Received(frame.headers["destination"], content))


class BusConnection:
    """One agent's place at the broker.

    Parameters
    ----------
    name
        Client id.
    destinations
        What it subscribes to, the first as agents do with id 1.
    wanted
        Which messages it keeps, called in the thread that reads; None: all.
    namespace
        Told to the platform's own door with each subscription to a queue, which several runners share.
    """

    def __init__(
        self,
        address: Address,
        name: str,
        destinations: tuple[str, ...],
        *,
        namespace: str,
        wanted: Callable[[Received], bool] | None = None,
    ) -> None:
        self.received: queue.Queue[Received] = queue.Queue(MOST)
        self._address = address
        self._name = name
        self._destinations = destinations
        self._namespace = namespace
        self._wanted = wanted
        self._held: tuple[Any, _Listener] | None = None
        self._one_at_a_time = threading.RLock()

    def open(self) -> None:
        """Connect and subscribe, trying for half a minute.

        Raises
        ------
        BusAway
            Nobody answers, or we are not welcome.
        """
        for left in reversed(range(TRIES)):
            try:
                self._held = self._connect()
                return
            except BusAway:
                if not left:
                    raise
                time.sleep(PAUSE)

    def mend(self) -> None:
        """Connect again if the connection broke; what a topic said meanwhile is lost, as for every agent."""
        with self._one_at_a_time:
            if self._held is None or self._held[1].broken.is_set():
                self._drop()
                self.open()

    def send(self, destination: str, content: Mapping[str, Any], **headers: str) -> None:
        """Send a message, over a new connection if this one broke.

        Raises
        ------
        BusAway
            The broker cannot be reached.
        """
        body = json.dumps(content)
        with self._one_at_a_time:
            for last in (False, True):
                self.mend()
                assert self._held is not None
                try:
                    self._held[0].send(destination, body, headers=headers)
                    return
                except (OSError, stomp.exception.StompException) as exc:
                    self._held[1].broken.set()
                    if last:
                        raise BusAway(str(exc) or type(exc).__name__) from exc

    def close(self) -> None:
        """Say goodbye, and wait until it was heard."""
        if self._held is None:
            return
        connection, listener = self._held
        if not listener.broken.is_set():
            try:
                connection.disconnect(uuid4().hex)
                listener.farewell.wait(TIMEOUT)
            except (OSError, stomp.exception.StompException):
                pass  # it is gone, which is what we want
        self._held = None

    def _take(self, received: Received) -> None:
        if self._wanted is None or self._wanted(received):
            self.received.put(received)

    def _connect(self) -> tuple[Any, _Listener]:
        place = (self._address.host, self._address.port)
        listener = _Listener(self._take)
        connection = stomp.StompConnection11(
            [place],
            heartbeats=HEARTBEATS,
            auto_content_length=False,
            auto_decode=False,
            timeout=TIMEOUT,
            reconnect_attempts_max=1,
            try_loopback_connect=False,
        )
        if self._address.ca:
            connection.set_ssl(for_hosts=[place], ca_certs=self._address.ca)
        connection.set_listener("agent", listener)
        try:
            connection.connect(self._address.user, self._address.password, headers={"client-id": self._name})
            if not listener.connected.wait(TIMEOUT) or listener.broken.is_set():
                raise BusAway(f"{place[0]}:{place[1]}: {listener.reason}")
            for number, destination in enumerate(self._destinations, 1):
                more = {"x-namespace": self._namespace} if destination.startswith("/queue/") else {}
                connection.subscribe(destination, str(number), "auto", headers=more)
        except (OSError, stomp.exception.StompException) as exc:
            raise BusAway(f"{place[0]}:{place[1]}: {exc or type(exc).__name__}") from exc
        return connection, listener

    def _drop(self) -> None:
        if self._held is not None:
            connection, _ = self._held
            self._held = None
            connection.transport.disconnect_socket()
