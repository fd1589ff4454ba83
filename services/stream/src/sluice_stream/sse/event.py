"""A message as readers get it: encoded once, with what it is chosen by."""

import json
from collections.abc import Mapping
from typing import Any, Self

import structlog

from sluice_core.bus import Message as Stored
from sluice_core.http.sse import encode_event
from sluice_stream.messages import Message
from sluice_stream.sse.position import Position

__all__ = ["PARAMETERS", "Event", "Values"]

log = structlog.get_logger(__name__)

PARAMETERS: Mapping[str, tuple[str, ...]] = {
    "msg_types": ("msg_type",),
    # Agents built on the current base class send `sender`, older ones `processed_by` (decision 11).
    "agents": ("processed_by", "sender_agent", "sender"),
    "run_ids": ("run_id",),
    "namespaces": ("namespace",),
    "execution_ids": ("execution_id",),
}
"""Keys of a message that each query parameter looks at."""

Values = Mapping[str, tuple[str, ...]]


class Event:
    """One message of the stream.

    Attributes
    ----------
    sequence
        In the stream.
    values
        What each query parameter finds in it, as texts; None where nobody gets it.
    frame
        The bytes of the event (contract 6.1).
    """

    __slots__ = ("frame", "sequence", "values")

    def __init__(self, sequence: int, values: Values | None, frame: bytes) -> None:
        self.sequence = sequence
        self.values = values
        self.frame = frame

    @classmethod
    def of(cls, stored: Stored, epoch: str) -> Self:
        """Read what lies in the stream.

        Parameters
        ----------
        epoch
            Of the stream.
        """
        try:
            message = Message.of(stored.headers, stored.data)
            body = json.loads(message.body)
            if message.replayed:
                return cls(stored.sequence, None, b"")
            payload = enriched(message, body)
            name, data = _text(body.get("msg_type", "message")), json.dumps(payload)
        except (ValueError, AttributeError, RecursionError) as exc:
            # Nobody but we may write there.
            log.error("no message in the stream", sequence=stored.sequence, reason=type(exc).__name__)
            return cls(stored.sequence, None, b"")
        frame = encode_event(name or "", data.encode(), str(Position(epoch, stored.sequence)))
        return cls(stored.sequence, _values(payload), frame)


def enriched(message: Message, body: dict[str, Any]) -> dict[str, Any]:
    """Return the body with what is added where it is absent (contract 7.4)."""
    return {
        **body,
        **{
            key: value
            for key, value in (
                ("sender_agent", _text(body.get("sender"))),
                ("recipient_agent", _text(body.get("recipient"))),
                ("namespace", None),
                ("queue_name", message.queue_name),
                ("sent_at", message.at.isoformat()),
            )
            if key not in body
        },
    }


def _values(payload: Mapping[str, Any]) -> Values:
    return {
        parameter: tuple({text for key in keys if (text := _text(payload.get(key))) is not None})
        for parameter, keys in PARAMETERS.items()
    }


def _text(value: Any) -> str | None:
    """Ids are compared as texts (decision 11)."""
    if value is None or isinstance(value, dict | list):
        return None
    return value if isinstance(value, str) else str(value)
