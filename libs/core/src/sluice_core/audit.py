"""Who did what: a record of each request that changes something, and of each refused credential.

While a request is answered, those who learn something about it leave it in its `Note`. At its end the envelope makes
one `Record` of it, and the `Trail` of the service publishes that to the stream ``AUDIT``, which the registry keeps as
a table. Until the stream has it, it is in the memory of the process and lost with it; who must not lose it stores the
`event` in the transaction of what it tells, and says so by `Note.keep`.

A record has no body, no header and no query of a request, and no word of its path that nobody has found, so no secret
gets into it.
"""

import asyncio
import re
import time
from collections import deque
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple
from uuid import UUID, uuid4

import msgspec
import structlog

from sluice_core import subjects
from sluice_core.bus import Backoff, Bus, BusError, StreamRefused

if TYPE_CHECKING:
    from sluice_core.auth.identity import Identity

__all__ = [
    "OUTCOMES",
    "REQUEST",
    "TYPE",
    "Event",
    "Note",
    "Outcome",
    "Place",
    "Record",
    "Trail",
    "begin",
    "event",
    "note",
]

TYPE = "audit.record"
REQUEST = "request"
"""Action of a record that has no better name than its method and route."""

Outcome = Literal["done", "refused", "invalid", "failed"]
OUTCOMES: tuple[Outcome, ...] = ("done", "refused", "invalid", "failed")

# 0.5 kB each. What comes while NATS is away for longer than it takes to fill them is lost, and counted.
KEPT = 10_000
# Records of one message, and its bytes.
BATCH = 100
BATCH_BYTES = 256 * 1024
# Seconds for which records gather, so that they travel and are stored together.
GATHER = 0.1
# Records a second without a name, and as many seconds of them at once: a stranger must not push out what others did.
NAMELESS = 10.0
BURST = 10.0
LENGTH = 255

_SAFE = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
# Without a method: what nobody asked for, such as what a timer does.
_METHODS = _SAFE | {"POST", "PUT", "PATCH", "DELETE", "WEBSOCKET", ""}
_REFUSALS = (401, 403, 429)
# People paste tokens where ids belong.
_JWT = re.compile(r"eyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_.-]*")
MASKED = "***"

log = structlog.get_logger(__name__)

Short = Annotated[str, msgspec.Meta(max_length=LENGTH)]


class Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one request did, or tried.

    Attributes
    ----------
    action
        Such as ``token.created``; `REQUEST` where method and route say it.
    user
        Who; empty when nobody knows.
    token_id
        Id of the token or session that was sent.
    method, route
        The route as a template, without what stood in its place; both empty where nobody asked.
    key
        The object: the key of a row, the name of a user, the id of a token; empty when there is none.
    outcome
        ``done``; ``refused``, by the credential or for want of a right; ``invalid``, which is any other mistake of the
        client; ``failed``: an error of ours, or nobody waited for the answer.
    status
        HTTP status; None for a WebSocket, and for what was stored before the answer.
    source
        Address that the request came from.
    detail
        What else is worth knowing.
    """

    action: Short = REQUEST
    user: Short
    token_id: Short | None
    method: Short
    route: Short
    key: Short
    outcome: Outcome
    status: int | None
    request_id: Short
    source: Short
    detail: dict[str, Any] | None = None


class Event(msgspec.Struct, frozen=True):
    """A record in the form of all events. A message is an array of them; its subject says which service they are of."""

    id: UUID
    type: str
    v: int
    at: datetime
    data: Record


class Place(NamedTuple):
    """Where a request came from, and where it went to.

    Attributes
    ----------
    method, route, request_id, source
        See `Record`.
    words
        What stood in the places of the route's template.
    """

    method: str = ""
    route: str = ""
    words: str = ""
    request_id: str = ""
    source: str = ""


@dataclass(slots=True)
class Note:
    """What is known so far about the request being answered.

    Attributes
    ----------
    identity
        Who sent it.
    refused
        A credential was sent and is not good.
    routine
        Not worth a record unless it is refused.
    kept
        A record of it is stored already.
    action, user, key, detail
        See `Record`. The key is told by whoever has found the object: what a path names may be anything that somebody
        has pasted there.
    words
        What stood in the places of the route's template, where the framework does not know.
    place
        Tells where it came from and went to.
    """

    identity: "Identity | None" = None
    refused: bool = False
    routine: bool = False
    kept: bool = False
    action: str = REQUEST
    user: str = ""
    key: str = ""
    detail: dict[str, Any] = field(default_factory=dict)
    words: str = ""
    place: Callable[[], Place] = Place

    def keep(self) -> None:
        """Say that a record is stored: nothing more is published about this request."""
        self.kept = True

    def matters(self, method: str, status: int | None, *, known: bool) -> bool:
        """Whether the request is to be recorded, now that it was answered.

        Parameters
        ----------
        known
            Whether there is such a route. Where there is none, nothing can be changed.
        """
        if self.kept:
            return False
        if self.refused:
            return True
        if method in _SAFE or method == "WEBSOCKET":
            # A stranger who reads without a credential is no news.
            return status in _REFUSALS and self.identity is not None
        return known and (not self.routine or status in _REFUSALS)


_noted: ContextVar[Note | None] = ContextVar("sluice_audit", default=None)


def begin() -> Note:
    """Begin the note of a new request; the envelope does it."""
    made = Note()
    _noted.set(made)
    return made


def note() -> Note:
    """Return the note of the request being answered, also in a thread or task of it; outside of one nobody reads it."""
    return _noted.get() or Note()


class _Batch(NamedTuple):
    msg_id: str
    data: bytes
    records: int


class Trail:
    """Records of one service, on their way to the stream ``AUDIT``.

    Parameters
    ----------
    bus
        Takes them.
    service
        Whose they are.
    kept
        How many wait while NATS is away.

    Attributes
    ----------
    dropped
        Records that were thrown away: too many waited, or too many had no name.
    """

    def __init__(self, bus: Bus, service: str, *, kept: int = KEPT) -> None:
        self._bus = bus
        self._subject = subjects.audit(service)
        self._kept = kept
        self._waiting: deque[Event] = deque()
        self._some = asyncio.Event()
        self._batch: _Batch | None = None
        self._next_nameless = 0.0
        self.dropped = 0

    @property
    def waiting(self) -> int:
        """Records that no stream has yet."""
        return len(self._waiting) + (0 if self._batch is None else self._batch.records)

    def request(self, noted: Note, status: int | None) -> None:
        """Record a request; from the event loop.

        Parameters
        ----------
        status
            0: it was not answered; None: a WebSocket.
        """
        made = event(noted, _outcome(noted, status), status)
        record = made.data
        if self.waiting >= (self._kept if record.user else self._kept // 2) or not self._admitted(record):
            self.dropped += 1
            return
        self._waiting.append(made)
        self._some.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Publish what comes until ``stop`` is set, then what is left, once; a supervised, graceful task."""
        delays = Backoff()
        stopped = asyncio.ensure_future(stop.wait())
        try:
            while True:
                some = asyncio.ensure_future(self._some.wait())
                await asyncio.wait({some, stopped}, return_when=asyncio.FIRST_COMPLETED)
                some.cancel()
                await asyncio.wait({stopped}, timeout=GATHER)
                if await self._publish():
                    delays.reset()
                elif not stop.is_set():
                    await delays.wait(stop)
                    continue
                if stop.is_set():
                    return
        finally:
            stopped.cancel()
            if self.waiting:
                log.warning("audit records may be lost", count=self.waiting)

    async def _publish(self) -> bool:
        """Send what waits; whether the stream has taken it all."""
        while self._waiting or self._batch is not None:
            self._batch = self._batch or self._gathered()
            try:
                await self._bus.publish_stored(self._subject, self._batch.data, msg_id=self._batch.msg_id)
            except StreamRefused as exc:
                if not exc.permanent:
                    return False
                self.dropped += self._batch.records
                log.warning("audit records refused", reason=str(exc), count=self._batch.records)
            except BusError:
                return False
            self._batch = None
        self._some.clear()
        return True

    def _gathered(self) -> "_Batch":
        """Take the next records out of the line.

        They stay together until the stream has them: it may have them without our knowing, and then takes nothing more
        under their id.
        """
        first, size = str(self._waiting[0].id), 0
        events: list[bytes] = []
        while self._waiting and len(events) < BATCH and size < BATCH_BYTES:
            events.append(msgspec.json.encode(self._waiting.popleft()))
            size += len(events[-1])
        return _Batch(first, b"[" + b",".join(events) + b"]", len(events))

    def _admitted(self, record: Record) -> bool:
        if record.user:
            return True
        now = time.monotonic()
        if self._next_nameless > now:
            return False
        self._next_nameless = max(self._next_nameless, now - BURST) + 1 / NAMELESS
        return True


def event(noted: Note, outcome: Outcome, status: int | None = None) -> Event:
    """Make a record of what is known about a request by now.

    Parameters
    ----------
    status
        As it was answered; 0: it was not; None: not yet, or never.
    """
    identity, place = noted.identity, noted.place()
    # What was done was found. All else may be anything that somebody has typed or pasted, such as a password.
    words = place.words if status and status < 400 else ""
    record = Record(
        action=noted.action,
        user=_clean(identity.subject if identity is not None else noted.user),
        token_id=None if identity is None or identity.token_id is None else _clean(identity.token_id),
        method=place.method if place.method in _METHODS else "other",
        route=_clean(place.route),
        key=_clean(noted.key or words),
        outcome=outcome,
        status=status or None,
        request_id=place.request_id,
        source=place.source,
        detail=noted.detail or None,
    )
    return Event(uuid4(), TYPE, 1, datetime.now(UTC), record)


def _outcome(noted: Note, status: int | None) -> Outcome:
    if noted.refused or status in _REFUSALS:
        return "refused"
    if not status or status >= 500:
        return "failed"
    return "done" if status < 400 else "invalid"


def _clean(text: str) -> str:
    """Return what PostgreSQL and JSON can keep of a text, and no token in it."""
    text = text[:8192].encode("utf-8", "replace").decode().replace("\0", "\ufffd")
    return _JWT.sub(MASKED, text)[:LENGTH]
