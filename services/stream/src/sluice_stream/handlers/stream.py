"""The two paths of the event stream (contract 6.1, 6.3)."""

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC
from functools import partial
from ipaddress import ip_address
from typing import Any, NamedTuple

from starlette.types import Receive, Scope, Send

from sluice_core.auth import Authenticator, Identity, Refused, Undecided
from sluice_core.auth import Scope as Right
from sluice_core.http import client_address
from sluice_core.http.sse import MEDIA_TYPE, Reader, encode_event
from sluice_core.rest import Boolean, Endpoint, FieldError, Invalid, Reply, Request
from sluice_stream.settings import Settings
from sluice_stream.sse.filters import Filters
from sluice_stream.sse.hub import Follower
from sluice_stream.sse.position import Position
from sluice_stream.sse.visits import Visit
from sluice_stream.sse.wiring import Sse

__all__ = ["endpoints"]

PATH = "/api/messages/stream/"
LONGEST_LOCATION = 255
RETRY = {"Retry-After": "1"}
EXTRAS = Boolean("extras")

_WHERE = {
    "schema": {"type": "string"},
    "in": "query",
    "required": False,
}
_PARAMETERS = [
    {"name": name, "description": text, **_WHERE}
    for name, text in (
        ("msg_types", "Only messages of these types; values with commas between them."),
        ("agents", "Only messages whose `processed_by`, `sender_agent` or `sender` is one of these."),
        ("run_ids", "Only messages of these runs."),
        ("namespaces", "Only messages of these namespaces."),
        ("execution_ids", "Only messages of these workflow executions."),
        ("after", "Begin after the event with this id. `Last-Event-ID`, where it is sent, wins."),
        ("extras", "`true`: tell how many events were dropped since this client is too slow (event `dropped`)."),
    )
]


class _Start(NamedTuple):
    """Where a client begins: now, or after an event; None for an id that we never gave."""

    resumes: bool
    after: Position | None


def endpoints(sse: Sse, authenticator: Authenticator, settings: Settings) -> Sequence[Endpoint]:
    """Return the stream and its status.

    Parameters
    ----------
    sse
        What they show.
    authenticator
        Is asked again while a stream is open.
    settings
        Length of a queue, who may embed the stream, and whose word for a client's address is taken.
    """
    door = _Door(sse, authenticator, settings)
    return (
        Endpoint(
            PATH,
            {"GET": door.stream},
            auth="stream",
            scope=Right.STREAM_READ,
            openapi={"get": _STREAM_OPERATION},
        ),
        Endpoint(
            f"{PATH}status/",
            {"GET": door.status},
            auth="session",
            scope=Right.STREAM_READ,
            openapi={"get": _STATUS_OPERATION},
        ),
    )


class _Door:
    def __init__(self, sse: Sse, authenticator: Authenticator, settings: Settings) -> None:
        self._sse = sse
        self._authenticator = authenticator
        self._queue = settings.sse_queue
        self._trusted = settings.shared.trusted_proxies
        origin = settings.sse_allow_origin
        self._headers = {
            "Cache-Control": "no-cache",
            "X-Accel-Buffering": "no",
            **({"Access-Control-Allow-Origin": origin} if origin else {}),
        }

    async def status(self, request: Request) -> Reply:
        found = await self._sse.visits.status()
        clients = {str(client_id): filters for client_id, filters in found}
        return Reply(200, {"connected_clients": len(clients), "client_ids": list(clients), "client_filters": clients})

    async def stream(self, request: Request) -> Reply:
        filters = Filters.of(request.query)
        start = _start(request)
        extras = _extras(request.query)
        if request.method == "HEAD":
            return Reply(200, headers=self._headers, media_type=MEDIA_TYPE)
        if not self._sse.hub.ready.is_set():
            return Reply(503, {"detail": "Messages cannot be followed at the moment."}, RETRY)
        if not self._sse.readers.has_room:
            return Reply(503, {"detail": "No more clients can be served at the moment."}, RETRY)
        reader = Reader(
            length=self._queue,
            tell_dropped=extras,
            allowed=_still_allowed(self._authenticator, request.scope, request.identity),
        )
        follower = Follower(reader, filters, resumes=extras or start.resumes)
        visit = Visit(reader, *self._from_where(request), filters.shown)
        serve = partial(self._serve, follower, visit, start)
        return Reply(200, headers=self._headers, media_type=MEDIA_TYPE, stream=serve)

    async def _serve(
        self, follower: Follower, visit: Visit, start: _Start, scope: Scope, receive: Receive, send: Send
    ) -> None:
        async def begin() -> None:
            await self._sse.visits.enter(visit)
            here = self._sse.hub.position
            client = json.dumps({"client_id": str(visit.client_id), "status": "connected"})
            await follower.reader.write(encode_event("connected", client.encode(), str(start.after or here)))
            await self._sse.feed.bring(follower, start.after if start.resumes else here)

        try:
            await self._sse.readers.serve(follower.reader, scope, receive, send, begin)
        finally:
            self._sse.hub.leave(follower)
            self._sse.visits.leave(visit)

    def _from_where(self, request: Request) -> tuple[str | None, str]:
        """Return the address of a client, and where it is (contract 6.2)."""
        address = client_address(request.scope, self._trusted).partition("%")[0]
        try:
            ip: str | None = str(ip_address(address))
        except ValueError:
            ip = None
        location = request.header("x-client-location").strip()[:LONGEST_LOCATION]
        if not location:
            location = {"192.168": "Local"}.get(address[:7]) or ("Internal" if address[:3] == "10." else "Remote")
        return ip, location


def _start(request: Request) -> _Start:
    """Return where a client wants to begin.

    Raises
    ------
    Invalid
        The parameter is no id. A header is never refused: a browser would not come back.
    """
    if last := request.header("last-event-id"):
        return _Start(True, Position.parse(last))
    text = request.query.get("after", "").strip()
    if not text:
        return _Start(False, None)
    after = Position.parse(text)
    if after is None:
        raise Invalid({"after": ["Enter the id of an event."]})
    return _Start(True, after)


def _extras(query: Mapping[str, str]) -> bool:
    text = query.get("extras", "")
    try:
        return bool(text and EXTRAS.parse(text, UTC))
    except FieldError as exc:
        raise Invalid({"extras": list(exc.args[0])}) from None


def _still_allowed(authenticator: Authenticator, scope: Scope, identity: Identity | None) -> Callable[[], bool]:
    """Return what tells whether the credential of this request is still good."""
    headers = scope["headers"]
    assert identity is not None
    by_session = authenticator.session(headers) is not None
    subject = identity.subject

    def allowed() -> bool:
        try:
            found = authenticator.session(headers) if by_session else authenticator.authenticate(headers)
        except Undecided:
            return True
        except Refused:
            return False
        return found is not None

    # A password is not asked for again; only who is switched off loses his stream.
    if not allowed():
        return lambda: not authenticator.keyring.inactive(subject)
    return allowed


_STREAM_OPERATION: Mapping[str, Any] = {
    "operationId": "messages_stream",
    "summary": "Messages as they come",
    "description": (
        "Server-sent events: `connected`, one event of its `msg_type` for each message, `heartbeat`. Who comes back "
        "with the last `id` as `Last-Event-ID`, or as `after`, gets what it missed, or an event `reset` when that is "
        "no longer possible."
    ),
    "tags": ["messages"],
    "parameters": _PARAMETERS,
    "responses": {
        "200": {"description": "The stream", "content": {MEDIA_TYPE: {"schema": {"type": "string"}}}},
        "400": {"description": "A parameter cannot be read"},
        "401": {"description": "No good credential"},
        "403": {"description": "The scope stream:read is missing"},
        "503": {"description": "Not at the moment"},
    },
}
_STATUS_OPERATION: Mapping[str, Any] = {
    "operationId": "messages_stream_status",
    "summary": "Who follows messages",
    "description": "Over all replicas.",
    "tags": ["messages"],
    "responses": {
        "200": {
            "description": "The clients that are connected",
            "content": {
                "application/json": {
                    "schema": {
                        "type": "object",
                        "properties": {
                            "connected_clients": {"type": "integer"},
                            "client_ids": {"type": "array", "items": {"type": "string", "format": "uuid"}},
                            "client_filters": {
                                "type": "object",
                                "additionalProperties": {
                                    "type": "object",
                                    "additionalProperties": {"type": "array", "items": {"type": "string"}},
                                },
                            },
                        },
                        "required": ["connected_clients", "client_ids", "client_filters"],
                    }
                }
            },
        },
        "403": {"description": "No good credential, or the scope stream:read is missing"},
    },
}
