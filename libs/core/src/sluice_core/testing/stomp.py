"""The real stomp.py as agents use it (swf-clients.md 7), at the door or at an ActiveMQ."""

import contextlib
import json
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple
from uuid import uuid4

import stomp  # type: ignore[import-untyped]

from sluice_core.testing.waiting import eventually

__all__ = ["Agent", "Heard", "Raw", "Spot"]


class Heard(NamedTuple):
    """A message as an agent got it."""

    headers: Mapping[str, str]
    body: str


class Spot(NamedTuple):
    """A STOMP server, and who may come in."""

    address: tuple[str, int]
    user: str
    passcode: str

    @contextlib.contextmanager
    def agent(self, client_id: str | None = None, version: str = "1.1", **headers: str) -> "Iterator[Agent]":
        """Connect with the exact headers of section 7."""
        agent = Agent(self, client_id or f"agent-{uuid4().hex}", version, headers)
        try:
            yield agent
        finally:
            agent.close()

    @contextlib.contextmanager
    def raw(self, headers: Mapping[str, str] | None = None, *, receive: int = 0) -> "Iterator[Raw]":
        """Connect with bytes of one's own, logged in."""
        with contextlib.closing(Raw(self, receive)) as raw:
            raw.login(**(headers or {}))
            yield raw


class Agent(stomp.ConnectionListener):  # type: ignore[misc]
    """One client, connected."""

    def __init__(self, spot: Spot, client_id: str, version: str, headers: Mapping[str, str]) -> None:
        kind = {"1.1": stomp.StompConnection11, "1.2": stomp.StompConnection12}[version]
        heartbeats = tuple(map(int, headers.get("heart-beat", "30000,30000").split(",")))
        self.connection = kind([spot.address], heartbeats=heartbeats, auto_content_length=False, timeout=10)
        self.connection.set_listener("test", self)
        self.heard: list[Heard] = []
        self.errors: list[str] = []
        self.lost = threading.Event()
        self.receipts: set[str] = set()
        self.version = version
        self.client_id = client_id
        sent = {"version": version, "client-id": client_id, "heart-beat": "30000,30000", **headers}
        self.connection.connect(spot.user, spot.passcode, wait=True, headers=sent)

    def on_message(self, frame: Any) -> None:
        self.heard.append(Heard(frame.headers, frame.body))

    def on_error(self, frame: Any) -> None:
        self.errors.append(frame.headers["message"])

    def on_receipt(self, frame: Any) -> None:
        self.receipts.add(frame.headers["receipt-id"])

    def on_disconnected(self) -> None:
        self.lost.set()

    def sure(self, do: Callable[[dict[str, str]], Any]) -> None:
        """Do something with a receipt, and wait for it."""
        receipt = uuid4().hex
        do({"receipt": receipt})
        eventually(lambda: receipt in self.receipts, 10)

    def subscribe(self, destination: str, known: str = "1", ack: str = "auto", **headers: str) -> None:
        """Subscribe; returns once that counts."""
        self.sure(lambda more: self.connection.subscribe(destination, known, ack, headers | more))

    def send(self, destination: str, body: str = "{}", **headers: str) -> None:
        """Send a text without a length, as agents do."""
        self.connection.send(destination, body, headers=headers)

    def send_surely(self, destination: str, body: str = "{}", **headers: str) -> None:
        """Send, and wait for the receipt."""
        self.sure(lambda more: self.connection.send(destination, body, headers=headers | more))

    def ack(self, heard: Heard, *, good: bool = True) -> None:
        """Acknowledge, or refuse."""
        tell = self.connection.ack if good else self.connection.nack
        if self.version == "1.1":
            tell(heard.headers["message-id"], heard.headers["subscription"])
        else:
            tell(heard.headers["ack"])

    def bodies(self, count: int, timeout: float = 10) -> list[str]:
        """Wait for so many messages, and return what is in them."""

        def enough() -> bool:
            assert len(self.heard) >= count, f"{len(self.heard)} of {count}: {self.heard[-3:]} {self.errors}"
            return True

        eventually(enough, timeout)
        return [heard.body for heard in self.heard]

    def numbers(self, count: int, timeout: float = 10) -> list[int]:
        """The same of bodies that are numbers."""
        return [json.loads(body) for body in self.bodies(count, timeout)]

    def drop(self) -> None:
        """End as a process does that is killed."""
        self.connection.transport.running = False
        with contextlib.suppress(OSError):
            self.connection.transport.socket.shutdown(socket.SHUT_RDWR)
        self.lost.wait(10)

    def close(self) -> None:
        """Say farewell, if there is still somebody."""
        if not self.lost.is_set():
            with contextlib.suppress(stomp.exception.StompException, OSError):
                self.connection.disconnect(uuid4().hex)
            self.lost.wait(10)


class Raw:
    """A socket.

    Parameters
    ----------
    receive
        Bytes that the kernel takes for a client that does not read; 0: as many as usual.
    """

    def __init__(self, spot: Spot, receive: int = 0) -> None:
        self._spot = spot
        self.socket = socket.socket()
        self.socket.settimeout(10)
        if receive:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
        self.socket.connect(spot.address)
        self._buffer = b""

    def login(self, **headers: str) -> None:
        """Connect; returns once that is answered."""
        head = {"accept-version": "1.1,1.2", "host": "x", "login": self._spot.user, "passcode": self._spot.passcode}
        self.say("CONNECT", {**head, **headers})
        command, _, _ = self.hear()
        assert command == "CONNECTED", command

    def say(self, command: str, headers: Mapping[str, str], body: bytes = b"") -> None:
        """Send a frame as it is."""
        lines = "".join(f"{name}:{value}\n" for name, value in headers.items())
        self.write(f"{command}\n{lines}\n".encode() + body + b"\0")

    def write(self, data: bytes) -> None:
        """Send bytes; a server may have hung up meanwhile."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.socket.sendall(data)

    def hear(self) -> tuple[str, dict[str, str], bytes]:
        """Return the next frame; an empty command when the server has hung up."""
        while True:
            self._buffer = self._buffer.lstrip(b"\n")
            head, end, rest = self._buffer.partition(b"\n\n")
            if end:
                command, *lines = head.decode().split("\n")
                headers = {name: _unescaped(value) for name, value in (line.split(":", 1) for line in reversed(lines))}
                length = headers.get("content-length")
                at = rest.find(b"\0") if length is None else int(length)
                if 0 <= at < len(rest):
                    self._buffer = rest[at + 1 :]
                    return command, headers, rest[:at]
            try:
                data = self.socket.recv(65536)
            except ConnectionResetError:
                data = b""
            if not data:
                return "", {}, b""
            self._buffer += data

    def rest(self) -> list[str]:
        """Read to the end; return the commands of what came."""
        return list(iter(lambda: self.hear()[0], ""))

    def close(self) -> None:
        """Hang up."""
        self.socket.close()


def _unescaped(text: str) -> str:
    return text.replace("\\c", ":").replace("\\n", "\n").replace("\\\\", "\\")
