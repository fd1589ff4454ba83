"""``/api/subscribers/`` (contract 3.8, swf-clients.md 5)."""

from typing import Any

import pytest
from starlette.testclient import TestClient

from sluice_core.testing.tokens import Tokens
from sluice_stream.resources import SUBSCRIBERS
from sluice_stream.tables import subscriber

URL = "/api/subscribers/"
NOT_PROVIDED = {"detail": "Authentication credentials were not provided."}
DENIED = {"detail": "You do not have permission to perform this action."}
TAKEN = {"subscriber_name": ["subscriber with this subscriber name already exists."]}


@pytest.fixture
def agent(client: TestClient, tokens: Tokens) -> TestClient:
    client.headers.update(tokens.header("stream:write"))
    return client


def subscription(**given: Any) -> dict[str, Any]:
    """Return the body that agents post; ``given`` wins."""
    return {
        "subscriber_name": "daq-7-/queue/workflow_control",
        "description": "DATA agent subscribing to /queue/workflow_control",
        "is_active": True,
        "fraction": 1.0,
        **given,
    }


def names(client: TestClient, query: str = "") -> list[str]:
    reply = client.get(URL + query)
    assert reply.status_code == 200, reply.text
    return [each["subscriber_name"] for each in reply.json()]


def test_what_an_agent_posts_comes_back_whole_and_in_the_order_of_the_contract(agent: TestClient) -> None:
    reply = agent.post(URL, json=subscription())
    assert reply.status_code == 201
    created = reply.json()
    times = {name: created.pop(name) for name in ("created_at", "updated_at")}
    assert times["created_at"] == times["updated_at"]
    assert times["created_at"].endswith("Z")
    assert created == {
        "subscriber_id": created["subscriber_id"],
        **subscription(),
        "delivery_type": "activemq",
        "client_ip": None,
        "client_location": "",
        "connected_at": None,
        "disconnected_at": None,
        "last_activity": None,
        "message_filters": {},
        "messages_received": 0,
        "messages_sent": 0,
        "messages_dropped": 0,
    }
    assert list(reply.json()) == [field.name for field in SUBSCRIBERS.fields] == [c.name for c in subscriber.columns]


def test_a_second_registration_is_the_400_that_agents_take_for_done(agent: TestClient) -> None:
    """Scenarios 11 of swf-monitor.md and 2 of swf-clients.md."""
    assert agent.post(URL, json=subscription()).status_code == 201
    reply = agent.post(URL, json=subscription(description="after a restart"))
    assert (reply.status_code, reply.json()) == (400, TAKEN)
    assert "already exists" in reply.text.lower()
    assert "subscriber" in reply.text.lower()
    assert len(names(agent)) == 1


def test_a_name_is_taken_for_changes_too(agent: TestClient) -> None:
    agent.post(URL, json=subscription())
    other = agent.post(URL, json=subscription(subscriber_name="other")).json()
    path = f"{URL}{other['subscriber_id']}/"
    reply = agent.patch(path, json={"subscriber_name": subscription()["subscriber_name"]})
    assert (reply.status_code, reply.json()) == (400, TAKEN)
    assert agent.patch(path, json={"subscriber_name": "other", "is_active": False}).status_code == 200


@pytest.mark.parametrize("value", ["NaN", "inf", "-Infinity", "1e999"])
def test_a_fraction_is_finite(agent: TestClient, value: str) -> None:
    reply = agent.post(URL, json=subscription(fraction=value))
    assert (reply.status_code, reply.json()) == (400, {"fraction": ["A valid number is required."]})
    assert names(agent) == []


def test_a_fraction_may_be_beyond_one_and_null(agent: TestClient) -> None:
    assert agent.post(URL, json=subscription(fraction=1.5)).json()["fraction"] == 1.5
    assert agent.post(URL, json=subscription(subscriber_name="other", fraction=None)).json()["fraction"] is None


@pytest.mark.parametrize(
    ("given", "errors"),
    [
        ({"subscriber_name": ""}, {"subscriber_name": ["This field may not be blank."]}),
        ({"subscriber_name": "x" * 256}, {"subscriber_name": ["Ensure this field has no more than 255 characters."]}),
        ({"delivery_type": "mail"}, {"delivery_type": ['"mail" is not a valid choice.']}),
        ({"client_ip": "10.0.0.300"}, {"client_ip": ["Enter a valid IPv4 or IPv6 address."]}),
        ({"message_filters": None}, {"message_filters": ["This field may not be null."]}),
        ({"messages_sent": None}, {"messages_sent": ["This field may not be null."]}),
        ({"is_active": "perhaps"}, {"is_active": ["Must be a valid boolean."]}),
    ],
)
def test_what_the_table_does_not_allow_is_400_and_named(
    agent: TestClient, given: dict[str, Any], errors: dict[str, list[str]]
) -> None:
    reply = agent.post(URL, json=subscription(**given))
    assert (reply.status_code, reply.json()) == (400, errors)


def test_texts_may_be_empty_and_addresses_come_back_in_their_shortest_form(agent: TestClient) -> None:
    body = subscription(description="", client_location="", client_ip="2001:0db8:0000::0001", delivery_type="sse")
    created = agent.post(URL, json=body).json()
    assert created["client_ip"] == "2001:db8::1"
    path = f"{URL}{created['subscriber_id']}/"
    changed = agent.patch(path, json={"client_ip": "::ffff:10.0.0.1", "description": None}).json()
    assert changed["client_ip"] == "10.0.0.1"
    assert changed["description"] is None
    assert changed["updated_at"] > created["updated_at"]
    assert changed["created_at"] == created["created_at"]


def test_filters_narrow_the_list_and_it_is_in_the_order_of_creation(agent: TestClient) -> None:
    agent.post(URL, json=subscription(subscriber_name="b", is_active=False))
    agent.post(URL, json=subscription(subscriber_name="a", delivery_type="sse"))
    agent.post(URL, json=subscription(subscriber_name="a/queue/x"))
    assert names(agent) == ["b", "a", "a/queue/x"]
    assert names(agent, "?is_active=true") == ["a", "a/queue/x"]
    assert names(agent, "?is_active=0") == ["b"]
    assert names(agent, "?delivery_type=sse") == ["a"]
    assert names(agent, "?subscriber_name=a/queue/x") == ["a/queue/x"]
    assert names(agent, "?delivery_type=activemq&is_active=true") == ["a/queue/x"]


@pytest.mark.parametrize(("query", "parameter"), [("?is_active=perhaps", "is_active"), ("?limit=-1", "limit")])
def test_a_parameter_that_cannot_be_read_is_400_and_named(agent: TestClient, query: str, parameter: str) -> None:
    reply = agent.get(URL + query)
    assert reply.status_code == 400
    assert list(reply.json()) == [parameter]


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_writes_need_stream_write(client: TestClient, tokens: Tokens, method: str) -> None:
    row = client.post(URL, json=subscription(), headers=tokens.header("stream:write")).json()
    path = URL if method == "POST" else f"{URL}{row['subscriber_id']}/"
    for headers, refusal in (({}, NOT_PROVIDED), (tokens.header("stream:read"), DENIED)):
        reply = client.request(method, path, json=subscription(description="x"), headers=headers)
        assert (reply.status_code, reply.json()) == (403, refusal)
    assert client.get(f"{URL}{row['subscriber_id']}/").json() == row


def test_a_deleted_subscriber_is_gone_and_its_name_is_free(agent: TestClient) -> None:
    row = agent.post(URL, json=subscription()).json()
    path = f"{URL}{row['subscriber_id']}/"
    assert agent.delete(path).status_code == 204
    gone = agent.delete(path)
    assert (gone.status_code, gone.json()) == (404, {"detail": "No Subscriber matches the given query."})
    assert agent.post(URL, json=subscription()).status_code == 201
