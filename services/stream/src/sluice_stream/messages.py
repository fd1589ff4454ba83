"""A workflow message on its way through the platform, and how it lies in the stream ``MESSAGES``.

==================== ==================================================================================================
Subject              ``messages.accepted.<namespace>.<msg_type>``, each a token of `sluice_core.subjects`; an absent
                     namespace is ``_``
Data                 the body as its sender wrote it, byte for byte: a JSON object in UTF-8 that PostgreSQL can store
``Nats-Msg-Id``      the id; the stream takes it once within its duplicate window
``Sluice-Id``        the id again, a UUID: that of the row in ``workflow-messages`` too
``Sluice-Destination`` where it was sent, such as ``/topic/epictopic``, percent-encoded
``Sluice-At``        when it came to us: ISO 8601 in UTC, with microseconds and ``+00:00``
``Sluice-Replayed``  only on what was parked and sent again: it was told to those who follow messages before
==================== ==================================================================================================

Only messages that `classify` takes for workflow messages get there, and only this service may publish there, so who
reads the stream need not judge them again: `Message.of` reads one, and `Message.fields` has the columns of the
contract's 7.4. What is no workflow message goes elsewhere: heartbeats to ``agents.in.heartbeat.>``, everything else to
``DLQ``.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, NoReturn
from urllib.parse import quote, unquote
from uuid import UUID

from sluice_core import subjects
from sluice_core.rest import FieldError, Json

__all__ = [
    "AT",
    "DESTINATION",
    "ID",
    "REPLAYED",
    "TOPIC",
    "Heartbeat",
    "Malformed",
    "Message",
    "canonical",
    "classify",
    "queue_name",
]

ID = "Sluice-Id"
DESTINATION = "Sluice-Destination"
AT = "Sluice-At"
REPLAYED = "Sluice-Replayed"

TOPIC = "/topic/"

# Lengths of the columns (contract 3.9).
LONGEST_TYPE = 50
LONGEST = {"sender": 100, "recipient": 100, "namespace": 100, "execution_id": 100, "run_id": 50}
LONGEST_QUEUE = 100

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_BODY = Json("body")


class Malformed(Exception):
    """Neither a workflow message nor a heartbeat; the text says why, without quoting what may be secret."""


@dataclass(frozen=True)
class Heartbeat:
    """A heartbeat that came over a broker (contract 7.3)."""

    namespace: str | None
    name: str


@dataclass(frozen=True)
class Fields:
    """What a workflow message says of itself (contract 7.4); numbers are texts."""

    msg_type: str
    content: dict[str, Any]
    sender: str | None
    recipient: str | None
    namespace: str | None
    execution_id: str | None
    run_id: str | None


@dataclass(frozen=True)
class Message:
    """One workflow message.

    Attributes
    ----------
    id
        Of the message, whatever way it takes and however often.
    destination
        Where it was sent.
    at
        When it came to us, in UTC.
    body
        As its sender wrote it.
    replayed
        It was told before.
    """

    id: UUID
    destination: str
    at: datetime
    body: bytes
    replayed: bool = False

    @classmethod
    def of(cls, headers: Mapping[str, str], body: bytes) -> "Message":
        """Read one of the stream.

        Raises
        ------
        ValueError
            It is none: something else has written there.
        """
        try:
            return cls(
                UUID(headers[ID]),
                unquote(headers[DESTINATION]),
                datetime.fromisoformat(headers[AT]).astimezone(UTC),
                body,
                REPLAYED in headers,
            )
        except KeyError as exc:
            raise ValueError(f"no header {exc.args[0]}") from None

    @cached_property
    def fields(self) -> Fields:
        """What it says of itself.

        Raises
        ------
        Malformed
            Never for a message of the stream.
        """
        found = classify(self.body)
        if isinstance(found, Heartbeat):
            raise Malformed("a heartbeat is no workflow message")
        return found

    @property
    def subject(self) -> str:
        """Where it is published."""
        return subjects.messages_accepted(self.fields.namespace, self.fields.msg_type)

    @property
    def headers(self) -> dict[str, str]:
        """What it carries beside its body, but for ``Nats-Msg-Id``."""
        replayed = {REPLAYED: "1"} if self.replayed else {}
        return {
            ID: str(self.id),
            DESTINATION: quote(self.destination),
            AT: self.at.isoformat("T", "microseconds"),
        } | replayed

    @property
    def queue_name(self) -> str:
        """Its destination as the contract's ``queue_name`` has it."""
        return queue_name(self.destination)


def canonical(destination: str) -> str:
    """Return a destination with its kind: a bare name, as old senders write it, is a topic (swf-clients.md 7)."""
    return destination if destination.startswith("/") else f"{TOPIC}{destination}"


def queue_name(destination: str) -> str:
    """Return the ``queue_name`` of a destination: a topic's is its bare name (contract 7.4), at most 100 characters."""
    return destination.removeprefix(TOPIC)[:LONGEST_QUEUE]


def classify(body: bytes) -> Fields | Heartbeat:
    """Say what a body is (contract 7.2).

    Raises
    ------
    Malformed
        It is nothing that could be stored.
    """
    content = _decoded(body)
    if not isinstance(content, dict):
        raise Malformed("no JSON object")
    if "agent_name" in content and "status" in content:
        return _heartbeat(content)
    if "msg_type" not in content:
        raise Malformed("neither msg_type nor agent_name and status")
    msg_type = content["msg_type"]
    if not isinstance(msg_type, str):
        raise Malformed("msg_type is no text")
    if len(msg_type) > LONGEST_TYPE:
        raise Malformed(f"msg_type has more than {LONGEST_TYPE} characters")
    if _CONTROL.search(msg_type):
        raise Malformed("msg_type has control characters")
    return Fields(msg_type, content, **{name: _text(content, name) for name in LONGEST})


def _heartbeat(content: Mapping[str, Any]) -> Heartbeat:
    name, namespace = content["agent_name"], content.get("namespace")
    if not isinstance(name, str) or not name:
        raise Malformed("agent_name is no text, or empty")
    if namespace is not None and not isinstance(namespace, str):
        raise Malformed("namespace is no text")
    return Heartbeat(namespace or None, name)


def _text(content: Mapping[str, Any], name: str) -> str | None:
    value = content.get(name)
    if value is None:
        return None
    if isinstance(value, dict | list):
        raise Malformed(f"{name} is neither text nor number")
    text = str(value)
    if len(text) > LONGEST[name]:
        raise Malformed(f"{name} has more than {LONGEST[name]} characters")
    return text


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


_decoder = json.JSONDecoder(parse_constant=_refuse_constant)


def _decoded(body: bytes) -> Any:
    try:
        content = _decoder.decode(body.decode())
        return _BODY.parse(content, UTC)
    except RecursionError:
        raise Malformed("JSON nested too deeply") from None
    except FieldError as exc:
        raise Malformed(" ".join(map(str, exc.args))) from None
    except ValueError:
        # Without the decoder's words, which may quote the body.
        raise Malformed("not JSON") from None
