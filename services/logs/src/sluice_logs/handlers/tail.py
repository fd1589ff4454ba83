"""``GET /api/logs/tail/``: records as they are stored, as server-sent events."""

from collections.abc import Callable
from datetime import timedelta, tzinfo

from starlette.types import Receive, Send
from starlette.types import Scope as AsgiScope

from sluice_core.auth import Authenticator, Refused
from sluice_core.auth.credentials import Token, read
from sluice_core.errors import Problem
from sluice_core.http.sse import MEDIA_TYPE, Reader, Readers, encode_event
from sluice_core.rest import Endpoint, Reply, Request
from sluice_logs.answers import FILTERS, answer, operation, refusing
from sluice_logs.tail import Tail, Wanted

__all__ = ["endpoint", "readers"]

# Events that wait for a reader; of 64 kB at the most, which all readers share.
LENGTH = 1000
MOST = 200
HEARTBEAT = timedelta(seconds=15)
# A proxy that gathers an answer would keep it for ever.
HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
WHAT = (
    "An event `log` for each record, as the list has it; of one longer than 64 kB the beginning of its message. An "
    "event `dropped` tells with `count` how many were lost by a reader that is slower than they come. Nothing is "
    "replayed: the list has what came before."
)


class TooMany(Problem):
    """No more streams can be open at once."""

    status, code, title = 503, "too_many_streams", "Too many streams are open"


def readers() -> Readers:
    """Return what holds the open streams."""
    return Readers(heartbeat=HEARTBEAT, beat=lambda: encode_event("heartbeat", b"{}"), most=MOST)


def endpoint(tail: Tail, readers: Readers, auth: Authenticator, zone: tzinfo) -> Endpoint:
    """Return what answers the path."""

    async def get(request: Request) -> Reply:
        wanted = Wanted(request.query, zone)
        if not readers.has_room:
            raise TooMany(headers={"Retry-After": "5"})
        reader = Reader(length=LENGTH, tell_dropped=True, allowed=_allowed(auth, request))

        async def stream(scope: AsgiScope, receive: Receive, send: Send) -> None:
            async def begin() -> None:
                await reader.write(encode_event("connected", b"{}"))
                reader.live = True

            async with tail.watching(reader, wanted):
                await readers.serve(reader, scope, receive, send, begin)

        return Reply(200, headers=HEADERS, media_type=MEDIA_TYPE, stream=stream)

    schema = {MEDIA_TYPE: {"type": "string", "description": WHAT}}
    document = operation("tail", "Records as they are stored", FILTERS, answer("An endless stream", schema))
    return Endpoint("/api/logs/tail/", {"GET": refusing(get)}, auth="read", negotiated=False, openapi={"get": document})


def _allowed(auth: Authenticator, request: Request) -> Callable[[], bool]:
    """Return what tells whether the credential of a request is still good."""
    headers = request.scope["headers"]
    if isinstance(read(headers), Token):

        def holds() -> bool:
            try:
                return auth.authenticate(headers) is not None
            except Refused:
                return False

        return holds
    if auth.session(headers) is not None:
        return lambda: auth.session(headers) is not None
    return lambda: True
