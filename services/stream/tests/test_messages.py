"""What a body is, and how a message lies in the stream (contract 7.2, 7.4)."""

import contextlib
import json
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice_stream.messages import Heartbeat, Malformed, Message, canonical, classify, queue_name

NOON = datetime(2026, 5, 5, 12, tzinfo=UTC)


def body(**content: Any) -> bytes:
    return json.dumps(content).encode()


@given(st.text(), st.datetimes(timezones=st.just(UTC)), st.booleans())
def test_a_message_comes_back_from_the_stream_as_it_was(destination: str, at: datetime, replayed: bool) -> None:
    destination = destination.encode(errors="replace").decode()
    message = Message(uuid4(), destination, at, b'{ "msg_type" :"x"}', replayed)
    headers = message.headers
    assert all(value.isascii() and value.isprintable() for value in headers.values())
    assert Message.of(headers, message.body) == message


@pytest.mark.parametrize("missing", ["Sluice-Id", "Sluice-Destination", "Sluice-At"])
def test_what_lacks_a_header_is_no_message(missing: str) -> None:
    headers = Message(uuid4(), "/topic/x", NOON, b"").headers
    del headers[missing]
    with pytest.raises(ValueError, match=missing):
        Message.of(headers, b"")


def test_what_a_message_says_of_itself() -> None:
    found = classify(body(msg_type="stf_gen", sender="daq-1", namespace="n1", run_id=100010, execution_id=None))
    assert not isinstance(found, Heartbeat)
    assert (found.msg_type, found.sender, found.recipient) == ("stf_gen", "daq-1", None)
    assert (found.namespace, found.run_id, found.execution_id) == ("n1", "100010", None)
    assert found.content["run_id"] == 100010


def test_the_subject_names_namespace_and_type() -> None:
    assert Message(uuid4(), "/topic/x", NOON, body(msg_type="a b", namespace="n.1")).subject == (
        "messages.accepted.n=2E1.a=20b"
    )
    assert Message(uuid4(), "/topic/x", NOON, body(msg_type="x")).subject == "messages.accepted._.x"


def test_agent_name_and_status_make_a_heartbeat_also_with_a_msg_type() -> None:
    assert classify(body(agent_name="q1", status="WARNING", msg_type="x")) == Heartbeat(None, "q1")
    assert classify(body(agent_name="q1", status="", namespace="n")) == Heartbeat("n", "q1")


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"not json", "not JSON"),
        (b"", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b'{"msg_type": NaN}', "not JSON"),
        (b"[1]", "no JSON object"),
        (b'{"a":1}', "neither msg_type nor agent_name and status"),
        (b'{"msg_type":null}', "msg_type is no text"),
        (b'{"msg_type":5}', "msg_type is no text"),
        (body(msg_type="x" * 51), "msg_type has more than 50 characters"),
        (body(msg_type="a\ndata: forged"), "msg_type has control characters"),
        (body(msg_type="a\u2028"), "msg_type has control characters"),
        (body(msg_type="x", sender="s" * 101), "sender has more than 100 characters"),
        (body(msg_type="x", run_id=[1]), "run_id is neither text nor number"),
        (body(msg_type="x", note="\x00"), "Null characters are not allowed."),
        (b'{"msg_type":"x","note":"\\ud800"}', "Surrogate characters are not allowed: U+D800."),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "JSON nested too deeply"),
        (body(agent_name="", status="OK"), "agent_name is no text, or empty"),
        (body(agent_name=7, status="OK"), "agent_name is no text, or empty"),
        (body(agent_name="a", status="OK", namespace=7), "namespace is no text"),
    ],
)
def test_what_could_not_be_stored_is_named(raw: bytes, reason: str) -> None:
    with pytest.raises(Malformed) as found:
        classify(raw)
    assert str(found.value) == reason


@given(st.binary(max_size=200))
def test_no_body_makes_it_fail(raw: bytes) -> None:
    with contextlib.suppress(Malformed):
        classify(raw)


def test_names_of_destinations() -> None:
    assert canonical("epictopic") == "/topic/epictopic"
    assert canonical("/queue/a") == "/queue/a"
    assert queue_name("/topic/epictopic") == "epictopic"
    assert queue_name("/queue/a") == "/queue/a"
    assert len(queue_name("/topic/" + "x" * 300)) == 100
