"""``POST /api/messages/`` where there is no broker, and messages of programs."""

import asyncio
import json
from typing import Any

import nats as nats_py
import pytest
import requests
from nats.aio.client import Client
from starlette.testclient import TestClient

from sluice_core.bus.permissions import PROGRAMS
from sluice_core.testing import eventually
from sluice_core.testing.tokens import Tokens

from .conftest import Run
from .work import Nats

URL = "/api/messages/"


def test_without_a_broker_a_followed_destination_takes_messages_all_the_same(run: Run, nats: Nats) -> None:
    stream = run()
    reply = stream.send({"msg_type": "announcement", "sender": "ada", "n": 10**30})
    assert (reply.status_code, reply.json()["destination"]) == (202, "/topic/epictopic")
    (row,) = stream.recorded(1)
    assert row["message_id"] == reply.json()["id"]
    assert (row["queue_name"], row["sender_agent"]) == ("epictopic", "ada")
    assert row["message_content"]["n"] == 10**30
    assert nats.stored("OUTBOUND") == 0
    refused = stream.send({"command": "ping"}, destination="/queue/agent_control.ada")
    assert (refused.status_code, refused.json()["type"]) == (409, "urn:problem:no_broker")


def test_a_request_that_is_repeated_with_its_key_is_one_message(run: Run, nats: Nats) -> None:
    stream = run()
    body = {"message": {"msg_type": "x"}}
    url = stream.url + URL
    ids = {
        stream.http.post(url, json=body, headers={"Idempotency-Key": key}, timeout=10).json()["id"]
        for key in ("a", "a", "b")
    }
    assert len(ids) == 2
    stream.recorded(2)
    assert nats.stored("MESSAGES") == 2


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "message"),
        ({"message": [1]}, "message"),
        ({"message": {"a": 1}}, "message"),
        ({"message": {"msg_type": None}}, "message"),
        ({"message": {"msg_type": "x" * 51}}, "message"),
        ({"message": {"msg_type": "a\nb"}}, "message"),
        ({"message": {"msg_type": "x", "note": "\x00"}}, "message"),
        ({"message": {"msg_type": "x"}, "destination": "epictopic"}, "destination"),
        ({"message": {"msg_type": "x"}, "destination": "/topic/"}, "destination"),
        ({"message": {"msg_type": "x"}, "destination": "/topic/a\nb"}, "destination"),
        ({"message": {"msg_type": "x"}, "headers": {"a": "b\nc"}}, "headers.a"),
        ({"message": {"msg_type": "x"}, "headers": {"Sluice-Id": "b"}}, "headers.Sluice-Id.[key]"),
        ({"message": {"msg_type": "x"}, "headers": {"receipt": "b"}}, "headers.receipt.[key]"),
        ({"message": {"msg_type": "x"}, "headers": {f"h{n}": "" for n in range(21)}}, "headers"),
        ({"message": {"msg_type": "x"}, "id": "b"}, "id"),
    ],
)
def test_what_cannot_be_sent_is_400_and_named(
    client: TestClient, tokens: Tokens, body: dict[str, Any], field: str
) -> None:
    reply = client.post(URL, json=body, headers=tokens.header("stream:write"))
    assert reply.status_code == 400, reply.text
    assert [error["field"] for error in reply.json()["errors"]] == [field]


def test_who_may_not_send_is_refused(client: TestClient, tokens: Tokens) -> None:
    body = {"message": {"msg_type": "x", "namespace": "theirs"}}
    assert client.post(URL, json=body).status_code == 401
    assert client.post(URL, json=body, headers=tokens.header("stream:read")).status_code == 403
    mine = tokens.header("stream:write", namespaces=["mine"])
    assert client.post(URL, json=body, headers=mine).status_code == 403
    assert client.post(URL, json={"message": {"msg_type": "x"}}, headers=mine).status_code == 403


def test_without_nats_it_says_so_and_keeps_nothing(client: TestClient, tokens: Tokens) -> None:
    reply = client.post(URL, json={"message": {"msg_type": "x"}}, headers=tokens.header("stream:write"))
    assert (reply.status_code, reply.headers["retry-after"]) == (503, "2")


def test_a_full_stream_is_503_and_the_message_was_never_there(run: Run, nats: Nats) -> None:
    stream = run()
    nats.limit("MESSAGES", max_msgs=1)
    assert stream.send({"msg_type": "x"}).status_code == 202
    reply = stream.send({"msg_type": "x"})
    assert (reply.status_code, reply.headers["retry-after"]) == (503, "5")
    assert len(stream.recorded(1)) == 1


def test_what_programs_say_by_nats_comes_in_like_everything_else(run: Run, nats: Nats) -> None:
    stream = run()

    async def say(*messages: tuple[str, bytes]) -> None:
        client: Client = await nats_py.connect(nats.server.url(PROGRAMS, "only-for-this-test"))
        for subject, body in messages:
            # Headers are a program's own word: none of them is believed.
            await client.publish(subject, body, headers={"Sluice-Id": "forged", "Sluice-At": "1999-01-01T00:00:00"})
        await client.drain()

    good = json.dumps({"msg_type": "stf_gen", "namespace": "in", "sender": "daq-1"}).encode()
    asyncio.run(say(("messages.in.epictopic", good), ("messages.in.a.b", good), ("messages.in.x", b"rubbish")))
    (row,) = stream.recorded(1)
    assert (row["sender_agent"], row["namespace"], row["queue_name"]) == ("daq-1", "in", "epictopic")
    assert row["sent_at"] > "2026"
    eventually(lambda: len(stream.letters()) == 2)
    assert {letter["reason"] for letter in stream.letters()} == {"not JSON", "not a token: 'a.b'"}


def test_the_service_says_nothing_of_a_bridge_it_does_not_have(run: Run) -> None:
    stream = run()
    assert stream.metric("sluice_bridge_active") is None
    assert requests.get(stream.url + "/api/dlq/", timeout=10).status_code == 401
