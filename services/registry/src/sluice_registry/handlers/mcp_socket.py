"""``/ws/mcp/``: the message control protocol over a WebSocket (contract 8, decision 10).

The token comes with the handshake, as with any request. Browsers cannot set headers there, so the subprotocols
``bearer`` and, behind it, the token itself do too. The URL does not, since it ends up in logs, nor does a session: a
browser sends its cookie for any page that opens a WebSocket.
"""

import asyncio
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import msgspec
import structlog
from fastapi import APIRouter, WebSocket, WebSocketDisconnect
from prometheus_client import Counter
from starlette.responses import JSONResponse

from sluice_core.auth import Authenticator, Identity, Refused, Scope, Undecided
from sluice_core.database import DatabaseAway
from sluice_core.metrics import OTHER, Metrics
from sluice_core.rest import ApiError, denied
from sluice_registry.handlers.mcp import UNSUPPORTED, VERSION, Message, answer, known_id, refusal
from sluice_registry.service.mcp import COMMANDS, HEARTBEAT, Code, MessageControl, MessageRefused

__all__ = ["McpSockets"]

PATH = "/ws/mcp/"
SUBPROTOCOL = "bearer"
NOT_PROVIDED = "Authentication credentials were not provided."
# How soon a connection notices that its token has expired or was revoked, in seconds.
CHECK = 0.5
# Close codes of RFC 6455 and its registry.
GOING_AWAY, POLICY, RESTART = 1001, 1008, 1012

NO_JSON = "Invalid JSON format."
NO_VERSION = "'mcp_version' is a required field."
NO_MESSAGE = "Invalid MCP message format. 'message_id', 'command', and 'payload' are required."
AWAY = "An unexpected server error occurred: the database cannot be reached. Try again."

log = structlog.get_logger(__name__)

Headers = Sequence[tuple[bytes, bytes]]


class McpSockets:
    """The connections of one process.

    Parameters
    ----------
    control
        Does the commands.
    authenticator
        Asked at the handshake, and again and again as long as a connection lasts.
    draining
        Ends all of them.
    connections
        How many may be open.
    idle
        Silence of a client after which its connection ends.
    rate
        Messages a second that are read from one connection, and as many at once; the rest waits with the client.
    """

    def __init__(
        self,
        control: MessageControl,
        authenticator: Authenticator,
        draining: asyncio.Event,
        metrics: Metrics,
        *,
        connections: int,
        idle: timedelta,
        rate: int,
    ) -> None:
        self._control = control
        self._authenticator = authenticator
        self._draining = draining
        self._most = connections
        self._idle = idle.total_seconds()
        self._rate = rate
        self._open = 0
        metrics.gauge("sluice_mcp_sockets_open", "WebSockets of the message control protocol.", lambda: self._open)
        self._messages = Counter(
            "sluice_mcp_messages", "Messages by WebSocket.", ("command", "outcome"), registry=metrics.registry
        )
        for command in (*COMMANDS, OTHER):
            for outcome in ("done", "refused", "failed"):
                self._messages.labels(command, outcome)

    def router(self) -> APIRouter:
        """Return the path."""
        routes = APIRouter()
        routes.add_api_websocket_route(PATH, self.serve)
        return routes

    async def serve(self, websocket: WebSocket) -> None:
        """Serve one connection from its handshake to its end."""
        credential, subprotocol = _credential(websocket)
        await self._authenticator.prepare(credential)
        try:
            self._identify(credential)
        except Refused as exc:
            await websocket.send_denial_response(JSONResponse({"detail": exc.detail}, 403))
            return
        except Undecided as exc:
            await websocket.send_denial_response(JSONResponse({"detail": str(exc)}, 503, {"Retry-After": "2"}))
            return
        if self._open >= self._most:
            busy = JSONResponse({"detail": "Too many connections."}, 503, {"Retry-After": "10"})
            await websocket.send_denial_response(busy)
            return
        self._open += 1
        try:
            await websocket.accept(subprotocol)
            await self._talk(websocket, credential)
        except WebSocketDisconnect:
            pass
        finally:
            self._open -= 1

    def _identify(self, credential: Headers) -> Identity:
        identity = self._authenticator.authenticate(credential)
        if identity is None:
            raise Refused(NOT_PROVIDED)
        return identity

    async def _talk(self, websocket: WebSocket, credential: Headers) -> None:
        """Answer one message after the other."""
        draining = asyncio.create_task(self._draining.wait())
        incoming = asyncio.create_task(websocket.receive())
        heard = time.monotonic()
        due = heard - 1
        try:
            while True:
                await asyncio.wait({draining, incoming}, timeout=CHECK, return_when=asyncio.FIRST_COMPLETED)
                if draining.done():
                    return await websocket.close(RESTART, "the service stops")
                try:
                    identity = self._identify(credential)
                except Refused as exc:
                    return await websocket.close(POLICY, exc.detail)
                now = time.monotonic()
                if incoming.done():
                    event = incoming.result()
                    if event["type"] == "websocket.disconnect":
                        return None
                    reply = await self._reply(event.get("text"), identity)
                    if reply is not None:
                        await websocket.send_text(msgspec.json.encode(reply).decode())
                    heard, due = now, max(due, now - 1) + 1 / self._rate
                    # Not read before its time: the network holds up a client that sends faster.
                    await asyncio.wait({draining}, timeout=max(0, due - time.monotonic()))
                    incoming = asyncio.create_task(websocket.receive())
                elif now - heard > self._idle:
                    return await websocket.close(GOING_AWAY, "idle")
        finally:
            draining.cancel()
            incoming.cancel()

    async def _reply(self, text: str | None, identity: Identity) -> dict[str, Any] | None:
        """Do what a message says; return what it is answered by."""
        in_reply_to, command = None, OTHER
        try:
            data = _decode(text)
            in_reply_to = known_id(data)
            message = _read(data)
            command = message.command if message.command in COMMANDS else OTHER
            if command == HEARTBEAT and not identity.may(Scope.AGENTS_WRITE):
                raise denied()
            payload = await self._control.run(message.command, message.payload, identity)
        except MessageRefused as exc:
            refused = exc
        except ApiError as exc:
            refused = MessageRefused(Code.MALFORMED, exc.content["detail"])
        except DatabaseAway:
            refused = MessageRefused(Code.INTERNAL, AWAY)
        else:
            self._messages.labels(command, "done").inc()
            return None if command == HEARTBEAT else answer(payload, message.id)
        self._messages.labels(command, "failed" if refused.code is Code.INTERNAL else "refused").inc()
        if command == HEARTBEAT:
            # Nobody waits for an answer to it (contract 8).
            log.info("heartbeat not taken", reason=str(refused), subject=identity.subject)
            return None
        return refusal(refused, in_reply_to)


def _credential(websocket: WebSocket) -> tuple[Headers, str | None]:
    """Return the headers that may hold a token, and the subprotocol to agree to."""
    headers = list(websocket.scope["headers"])
    offered = websocket.scope.get("subprotocols", ())
    if not offered or offered[0].lower() != SUBPROTOCOL:
        return headers, None
    if len(offered) > 1 and not any(name == b"authorization" for name, _ in headers):
        headers.append((b"authorization", b"Bearer " + offered[1].encode("latin-1")))
    return headers, offered[0]


def _decode(text: str | None) -> Any:
    try:
        return msgspec.json.decode(text or "")
    except (ValueError, RecursionError):
        raise MessageRefused(Code.MALFORMED, NO_JSON) from None


def _read(data: Any) -> Message:
    """Check the envelope of a message, in the contract's order."""
    if not isinstance(data, dict):
        raise MessageRefused(Code.MALFORMED, NO_MESSAGE)
    if data.get("mcp_version") in (None, ""):
        raise MessageRefused(Code.NO_VERSION, NO_VERSION)
    if data["mcp_version"] != VERSION:
        raise MessageRefused(Code.UNSUPPORTED_VERSION, UNSUPPORTED)
    message_id, command, payload = known_id(data), data.get("command"), data.get("payload")
    if message_id is None or not isinstance(command, str) or not command or payload is None:
        raise MessageRefused(Code.MALFORMED, NO_MESSAGE)
    return Message(message_id, command, payload)
