"""``POST /api/messages/``."""

from datetime import UTC
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Header, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from sluice_core.auth import Identity, Scope
from sluice_core.auth.fastapi import REFUSALS, Forbidden, require
from sluice_core.bus import BusAway, StreamRefused
from sluice_core.errors import Invalid, Unavailable
from sluice_core.http.answers import json_response
from sluice_core.rest import FieldError, Json
from sluice_stream.messages import Malformed
from sluice_stream.sending import Sender
from sluice_stream.settings import Destination

__all__ = ["router"]

PATH = "/api/messages/"
MOST_HEADERS = 20
# Of the frame itself, or of ours.
RESERVED = frozenset(
    ("destination", "content-length", "content-type", "receipt", "transaction", "message-id", "subscription", "ack")
) | {"sluice-id"}
CONTENT = Json("message")


def _storable(value: dict[str, Any]) -> dict[str, Any]:
    try:
        CONTENT.parse(value, UTC)
    except FieldError as exc:
        raise ValueError(" ".join(map(str, exc.args))) from None
    return value


def _not_reserved(name: str) -> str:
    if name.lower() in RESERVED:
        raise ValueError(f"{name} is set by the platform")
    return name


HeaderName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{1,100}$"), AfterValidator(_not_reserved)]
HeaderValue = Annotated[str, StringConstraints(max_length=1000, pattern=r"^[^\x00-\x1f\x7f]*$")]


class NewMessage(BaseModel):
    """A message to be sent."""

    model_config = ConfigDict(extra="forbid")

    destination: Destination | None = Field(None, description="`/topic/x` or `/queue/x`; the first followed one")
    message: Annotated[dict[str, Any], AfterValidator(_storable)] = Field(
        description="A JSON object; to a followed destination with `msg_type`, or with `agent_name` and `status`"
    )
    headers: Annotated[dict[HeaderName, HeaderValue], Field(max_length=MOST_HEADERS)] = Field(
        {}, description="Further headers for the broker, such as `persistent` and `ttl`"
    )


class Accepted(BaseModel):
    """A message that will be delivered."""

    id: UUID = Field(description="Of its row in `workflow-messages` too, once it is recorded")
    destination: str


def router(sender: Sender, first: str) -> APIRouter:
    """Return the way in.

    Parameters
    ----------
    first
        The destination of a message that names none.
    """
    routes = APIRouter(tags=["messages"])

    @routes.post(
        PATH,
        status_code=202,
        summary="Send a message",
        description="It is stored when it is answered, and reaches the broker in the order of its destination. With "
        "an `Idempotency-Key`, a request that is repeated within ten minutes sends nothing more.",
        operation_id="messages_send",
        response_description="It will be delivered",
        response_model=Accepted,
        responses=REFUSALS
        | {409: {"description": "Only a broker delivers there, and none is configured"}}
        | {503: {"description": "It cannot be stored now"}},
    )
    async def send(
        body: NewMessage,
        caller: Annotated[Identity, require(Scope.STREAM_WRITE)],
        idempotency_key: Annotated[
            str | None, Header(min_length=1, max_length=255, description="Names this message among the caller's")
        ] = None,
    ) -> Response:
        namespace = body.message.get("namespace")
        if not caller.within(namespace if isinstance(namespace, str) else None):
            raise Forbidden("You may not send messages of this namespace.")
        request = None if idempotency_key is None else (caller.subject, idempotency_key)
        try:
            sent = await sender.send(body.destination or first, body.message, body.headers, request=request)
        except Malformed as exc:
            raise Invalid([{"field": "message", "message": str(exc)}]) from None
        except BusAway:
            raise Unavailable("NATS is away.", headers={"Retry-After": "2"}) from None
        except StreamRefused as exc:
            if exc.permanent:
                raise Invalid([{"field": "message", "message": str(exc)}]) from None
            raise Unavailable("Too many messages wait.", headers={"Retry-After": "5"}) from None
        return json_response({"id": sent.id, "destination": sent.destination}, 202)

    return routes
