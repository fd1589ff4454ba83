"""What a client may say when, and what it means: the state of one connection, without I/O.

Frames go in, and what they ask for comes out (`Login`, `Send`, `Subscribe` ...); who does it then tells what came of
it. Whatever is against the rules is a `Violation`, after which the connection ends.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from sluice_stream.door.frames import Frame
from sluice_stream.messages import canonical

__all__ = [
    "Ack",
    "AckMode",
    "Ask",
    "Disconnect",
    "Login",
    "Protocol",
    "Send",
    "Subscribe",
    "Unsubscribe",
    "Violation",
]

AckMode = Literal["auto", "client", "client-individual"]
MODES: Mapping[str, AckMode] = {"auto": "auto", "client": "client", "client-individual": "client-individual"}
VERSIONS = ("1.2", "1.1")
TRANSACTIONS = ("BEGIN", "COMMIT", "ABORT")
DURABLE = ("activemq.subscriptionName", "durable-subscription-name")
MOST_PREFETCH = 1000
LONGEST_ID = 255
# Milliseconds; who wants to be told more often that nothing happens is told so often.
FASTEST_BEAT = 100

_DESTINATION = re.compile(r"/(topic|queue)/[^\s\x00-\x1f\x7f]{1,240}")
_BEATS = re.compile(r"([0-9]{1,9}),([0-9]{1,9})")
# What belongs to a frame and not to its message.
_OF_THE_FRAME = frozenset(
    ("destination", "receipt", "transaction", "message-id", "subscription", "ack", "redelivered", "sluice-id")
) | {"content-length"}


class Violation(Exception):
    """The client has broken a rule; the text is for the one who wrote it."""


@dataclass(frozen=True)
class Login:
    """Who wants in.

    Attributes
    ----------
    version
        That both speak.
    ours, theirs
        Seconds between two signs of life that we owe and that we are owed; 0: none.
    """

    version: str
    login: str
    passcode: str
    client_id: str
    namespace: str
    ours: float
    theirs: float
    receipt: str | None = None


@dataclass(frozen=True)
class Send:
    """A message for a destination, with the headers that go with it."""

    destination: str
    headers: Mapping[str, str]
    body: bytes
    receipt: str | None


@dataclass(frozen=True)
class Subscribe:
    """Messages of a destination are wanted.

    Attributes
    ----------
    durable
        Name of a subscription that outlives the connection; empty: of none.
    namespace
        Whose commands are wanted of a queue that several namespaces share; empty: not said.
    prefetch
        Most messages that wait for an ACK at once.
    """

    id: str
    destination: str
    mode: AckMode
    selector: str
    durable: str
    namespace: str
    prefetch: int
    receipt: str | None


@dataclass(frozen=True)
class Unsubscribe:
    """A subscription ends; ``durable`` names one that shall be forgotten, too."""

    id: str
    durable: str
    receipt: str | None


@dataclass(frozen=True)
class Ack:
    """A message was processed, or (``good`` is false) could not be.

    Attributes
    ----------
    subscription
        Of 1.1 alone.
    id
        That of the message in 1.1, that of the delivery in 1.2.
    """

    good: bool
    id: str
    subscription: str | None
    receipt: str | None


@dataclass(frozen=True)
class Disconnect:
    """The client goes."""

    receipt: str | None


Ask = Login | Send | Subscribe | Unsubscribe | Ack | Disconnect


class Protocol:
    """One connection.

    Parameters
    ----------
    subscriptions
        How many a connection may have.
    prefetch
        Messages of one subscription that wait for an ACK at once, where its client does not say.

    Attributes
    ----------
    version
        That is spoken; None before the login.
    open
        Ids of the subscriptions that there are.
    ended
        Nothing more may come.
    """

    def __init__(self, *, subscriptions: int, prefetch: int) -> None:
        self._most = subscriptions
        self._prefetch = prefetch
        self.version: str | None = None
        self.open: set[str] = set()
        self.ended = False

    def receive(self, frame: Frame) -> Ask:
        """Say what a frame asks for.

        Raises
        ------
        Violation
            It breaks a rule.
        """
        headers = frame.headers
        if self.ended:
            raise Violation(f"{frame.command} after DISCONNECT")
        if frame.command in ("CONNECT", "STOMP"):
            return self._login(headers)
        if self.version is None:
            raise Violation(f"{frame.command} before CONNECT")
        if frame.command in TRANSACTIONS or "transaction" in headers:
            raise Violation("there are no transactions here; send and acknowledge each message by itself")
        receipt = headers.get("receipt")
        if frame.command == "SEND":
            passed = {name: value for name, value in headers.items() if name not in _OF_THE_FRAME}
            if "content-length" in headers:
                # As a broker does: who told the length gave bytes, and others a text (swf-clients.md 7).
                passed["content-length"] = str(len(frame.body))
            return Send(_destination(headers), passed, frame.body, receipt)
        if frame.command == "SUBSCRIBE":
            return self._subscribe(headers, receipt)
        if frame.command == "UNSUBSCRIBE":
            return self._unsubscribe(headers, receipt)
        if frame.command in ("ACK", "NACK"):
            return self._ack(frame.command == "ACK", headers, receipt)
        if frame.command == "DISCONNECT":
            self.ended = True
            return Disconnect(receipt)
        raise Violation(f"there is no command {frame.command}")

    def _login(self, headers: Mapping[str, str]) -> Login:
        if self.version is not None:
            raise Violation("connected already")
        accepted = [each.strip() for each in headers.get("accept-version", "1.0").split(",")]
        version = next((each for each in VERSIONS if each in accepted), None)
        if version is None:
            raise Violation(f"versions {' and '.join(sorted(VERSIONS))} are spoken here; say so in accept-version")
        beats = _BEATS.fullmatch(headers.get("heart-beat", "0,0").replace(" ", ""))
        if beats is None:
            raise Violation("heart-beat is not two numbers of milliseconds")
        sends, wants = map(int, beats.groups())
        client_id = headers.get("client-id", "")
        if len(client_id) > LONGEST_ID:
            raise Violation(f"a client-id has at most {LONGEST_ID} characters")
        self.version = version
        return Login(
            version,
            headers.get("login", ""),
            headers.get("passcode", ""),
            client_id,
            headers.get("x-namespace", ""),
            ours=max(wants, FASTEST_BEAT) / 1000 if wants else 0.0,
            theirs=max(sends, FASTEST_BEAT) / 1000 if sends else 0.0,
        )

    def _subscribe(self, headers: Mapping[str, str], receipt: str | None) -> Subscribe:
        known = _id(headers)
        if known in self.open:
            raise Violation(f"there is a subscription {known!r} already")
        if len(self.open) >= self._most:
            raise Violation(f"a connection has at most {self._most} subscriptions")
        mode = MODES.get(headers.get("ack", "auto"))
        if mode is None:
            raise Violation(f"ack is one of {', '.join(MODES)}")
        prefetch = headers.get("activemq.prefetchSize", "")
        if prefetch and not (prefetch.isdecimal() and prefetch.isascii() and len(prefetch) < 10):
            raise Violation("activemq.prefetchSize is no number")
        most = min(max(int(prefetch), 1), MOST_PREFETCH) if prefetch else self._prefetch
        durable = _durable(headers)
        destination = _destination(headers)
        if durable and not destination.startswith("/topic/"):
            raise Violation("a queue keeps its messages by itself; only a subscription of a topic can be durable")
        self.open.add(known)
        return Subscribe(
            known,
            destination,
            mode,
            headers.get("selector", "").strip(),
            durable,
            headers.get("x-namespace", ""),
            most,
            receipt,
        )

    def _unsubscribe(self, headers: Mapping[str, str], receipt: str | None) -> Unsubscribe:
        durable = _durable(headers)
        # The id is needed for what is open; a durable one can be forgotten while nobody listens.
        known = headers.get("id", "") if durable else _id(headers)
        if known not in self.open and not durable:
            raise Violation(f"there is no subscription {known!r}")
        self.open.discard(known)
        return Unsubscribe(known, durable, receipt)

    def _ack(self, good: bool, headers: Mapping[str, str], receipt: str | None) -> Ack:
        name = "id" if self.version == "1.2" else "message-id"
        known, subscription = headers.get(name), headers.get("subscription")
        if known is None:
            raise Violation(f"an ACK or NACK of version {self.version} has the header {name}")
        if self.version == "1.1" and subscription is None:
            raise Violation("an ACK or NACK of version 1.1 has the header subscription")
        return Ack(good, known, subscription if self.version == "1.1" else None, receipt)


def _destination(headers: Mapping[str, str]) -> str:
    said = headers.get("destination")
    if not said:
        raise Violation("no destination")
    destination = canonical(said)
    if not _DESTINATION.fullmatch(destination):
        raise Violation("a destination is /topic/NAME or /queue/NAME, or a bare name for a topic")
    return destination


def _id(headers: Mapping[str, str]) -> str:
    known = headers.get("id", "")
    if not 0 < len(known) <= LONGEST_ID:
        raise Violation(f"a subscription has an id of 1 to {LONGEST_ID} characters")
    return known


def _durable(headers: Mapping[str, str]) -> str:
    name = next((headers[each] for each in DURABLE if headers.get(each)), "")
    if len(name) > LONGEST_ID:
        raise Violation(f"the name of a durable subscription has at most {LONGEST_ID} characters")
    return name
