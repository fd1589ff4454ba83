"""``docs/asyncapi/stream.json`` says what the service does."""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from sluice_core.bus.permissions import SERVICES
from sluice_core.subjects import HeartbeatIn, inbound, outbound
from sluice_stream.asyncapi import document
from sluice_stream.messages import Message

COMMITTED = Path(__file__).parents[3] / "docs" / "asyncapi" / "stream.json"


def references(value: Any) -> Iterator[str]:
    """Yield what a document refers to."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key == "$ref":
                yield inner
            else:
                yield from references(inner)


def test_the_committed_document_is_that_of_the_code() -> None:
    assert json.loads(COMMITTED.read_text(encoding="utf-8")) == document(), "./task openapi writes it"


def test_whatever_it_refers_to_is_there() -> None:
    whole = document()
    found = set(references(whole))
    assert found
    for reference in found:
        place: Any = whole
        for word in reference.removeprefix("#/").split("/"):
            place = place[word]
    assert {f"#/components/messages/{name}" for name in whole["components"]["messages"]} <= found


def test_it_has_every_subject_that_the_service_speaks_on_or_reads() -> None:
    addresses = [channel["address"] for channel in document()["channels"].values()]
    patterns = [re.compile(re.sub(r"\\\{\w+\\\}", r"[^.]+", re.escape(address))) for address in addresses]
    message = Message(uuid4(), "/topic/x", datetime.now(UTC), b'{"msg_type": "a.b", "namespace": "n"}')
    spoken = [message.fields.subject, inbound("/topic/x"), outbound("/topic/x"), HeartbeatIn("n", "a").subject, "dlq.x"]
    for subject in spoken:
        assert any(pattern.fullmatch(subject) for pattern in patterns), subject
    # What it sends again for other services is their own to describe.
    granted = {subject for subject in SERVICES["stream"].publish if not subject.startswith("logs.")}
    assert {subject.partition(".")[0] for subject in granted} <= {address.partition(".")[0] for address in addresses}
    streams = {stream for stream, _ in SERVICES["stream"].consume}
    described = " ".join(channel["description"] for channel in document()["channels"].values())
    assert all(f"`{stream}`" in described for stream in streams)


def test_a_message_of_the_stream_has_the_headers_that_it_names() -> None:
    headers = document()["components"]["messages"]["message"]["headers"]
    for replayed in (False, True):
        message = Message(uuid4(), "/topic/x", datetime.now(UTC), b"", replayed)
        assert set(headers["required"]) <= set(message.headers) <= set(headers["properties"])
