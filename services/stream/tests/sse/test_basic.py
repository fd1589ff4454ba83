"""The bytes of the stream, who may have it, and what it can be asked for (contract 5.2, 6.1, 6.3)."""

import re
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest
import requests
from starlette.testclient import TestClient

from sluice_core.testing import NatsServer, eventually
from sluice_core.testing.apps import AppMaker
from sluice_core.testing.serving import serving
from sluice_core.testing.tokens import Tokens

from .conftest import PATH, Follow, Follower, Publisher

STATUS = f"{PATH}status/"
NOT_PROVIDED = '{"detail": "Authentication credentials were not provided."}'
DENIED = {"detail": "You do not have permission to perform this action."}


@pytest.fixture
def url(make_app: AppMaker, nats_server: NatsServer, publish: Publisher, follow: Follow) -> Iterator[str]:
    """A service that hears what is published."""
    with serving(make_app(nats_url=nats_server.url(), sse_counters_every="100ms")) as served:
        follow(served.url).close()
        yield served.url


def get(url: str, path: str, headers: dict[str, str] | None = None, **more: Any) -> requests.Response:
    return requests.get(url + path, headers=headers, timeout=10, allow_redirects=False, **more)


def row(url: str, client_id: str) -> dict[str, Any]:
    (found,) = get(url, f"/api/subscribers/?subscriber_name=sse_{client_id[:8]}").json()
    assert isinstance(found, dict)
    return found


def test_a_message_reaches_a_client_in_the_bytes_of_the_contract(
    url: str, publish: Publisher, follow: Follow, tokens: Tokens
) -> None:
    """Scenario 19 of swf-monitor.md."""
    eventually(lambda: get(url, STATUS, tokens.header("stream:read")).json()["connected_clients"] == 0)
    client = follow(url)
    assert client.headers["content-type"] == "text/event-stream"
    assert client.headers["cache-control"] == "no-cache"
    assert client.headers["x-accel-buffering"] == "no"
    assert client.headers["access-control-allow-origin"] == "*"
    assert client.headers["transfer-encoding"] == "chunked"
    assert client.raw.startswith(b'event: connected\ndata: {"client_id": "')
    client_id = re.findall(rb'"client_id": "([0-9a-f-]{36})", "status": "connected"}\n', client.raw)[0].decode()
    status = get(url, STATUS, tokens.header("stream:read") | {"Accept": "application/json"})
    assert status.json() == {"connected_clients": 1, "client_ids": [client_id], "client_filters": {client_id: {}}}

    publish("stf_gen", run_id="100010", sender="daq-1")
    event = client.next()
    assert event.name == "stf_gen"
    assert list(event.data) == [
        *("msg_type", "run_id", "sender"),
        *("sender_agent", "recipient_agent", "namespace", "queue_name", "sent_at"),
    ]
    assert event.data["sender_agent"] == "daq-1"
    assert event.data["recipient_agent"] is None
    assert event.data["namespace"] is None
    assert event.data["queue_name"] == "epictopic"
    assert event.data["sent_at"].endswith("+00:00")
    framed = re.sub(rb"id: [0-9a-f]+-\d+\n", b"", client.raw).split(b"\n\n")[1].decode()
    said = f'"sent_at": "{event.data["sent_at"]}"}}'
    assert framed == (
        'event: stf_gen\ndata: {"msg_type": "stf_gen", "run_id": "100010", "sender": "daq-1", '
        '"sender_agent": "daq-1", "recipient_agent": null, "namespace": null, "queue_name": "epictopic", ' + said
    )

    eventually(lambda: row(url, client_id)["messages_sent"] == 1)
    eventually(lambda: len(get(url, "/api/workflow-messages/").json()) == 1)
    (recorded,) = get(url, "/api/workflow-messages/").json()
    assert recorded["is_successful"] is True
    assert recorded["message_type"] == "stf_gen"

    before = row(url, client_id)
    assert before["is_active"]
    assert before["delivery_type"] == "sse"
    assert before["client_ip"] == "127.0.0.1"
    assert before["description"] == "SSE client from 127.0.0.1"
    assert before["client_location"] == "Remote"
    assert before["message_filters"] == {}
    assert before["fraction"] is None
    assert before["disconnected_at"] is None
    assert before["last_activity"] > before["connected_at"]
    client.close()
    eventually(lambda: not row(url, client_id)["is_active"])
    after = row(url, client_id)
    assert after["disconnected_at"] > after["connected_at"]
    assert get(url, STATUS, tokens.header("stream:read")).json()["connected_clients"] == 0


def test_a_quiet_stream_gets_heartbeats_whose_ids_move_on(
    make_app: AppMaker, nats_server: NatsServer, publish: Publisher, follow: Follow
) -> None:
    with serving(make_app(nats_url=nats_server.url(), sse_heartbeat="200ms")) as served:
        client = follow(served.url, "?msg_types=never")
        first = client.event()
        assert first.name == "heartbeat"
        assert list(first.data) == ["timestamp"]
        assert isinstance(first.data["timestamp"], float)
        sequence = publish("other")
        eventually(lambda: client.event().id.endswith(f"-{sequence}"))


def test_filters_choose_and_ids_are_compared_as_texts(url: str, publish: Publisher, follow: Follow) -> None:
    """Scenario 20 of swf-monitor.md; decision 11."""
    wants = {
        "?msg_types=stf_gen,other": ["stf_gen"],
        "?run_ids=7": ["stf_gen"],
        "?agents=p1": ["stf_gen"],
        "?msg_types=stf_gen&run_ids=7&agents=p1,%20p9": ["stf_gen"],
        "?namespaces=ns%201": ["stf_gen"],
        "?execution_ids=e-1": ["stf_gen"],
        "?msg_types=": ["stf_gen", "end_run"],
        "?agents=,%20,": ["stf_gen", "end_run"],
        "?agents=p2": ["end_run"],
        "?agents=s3": ["end_run"],
        "?agents=s3,p2,s3": ["end_run"],
        "?agents=a4": ["end_run"],
        "?run_ids=8&agents=p1": [],
        "?msg_types=STF_GEN": [],
    }
    clients = {query: follow(url, query) for query in wants}
    publish("stf_gen", run_id=7, processed_by="p1", namespace="ns 1", execution_id="e-1")
    publish("end_run", run_id="8", processed_by="p2", sender="s3", sender_agent="a4")
    for query, names in wants.items():
        assert [event.name for event in clients[query].take(len(names))] == names, query
    got = [len(names) for names in wants.values()]
    eventually(lambda: [row(url, client.client_id)["messages_sent"] for client in clients.values()] == got)
    two = row(url, clients["?run_ids=8&agents=p1"].client_id)
    assert two["message_filters"] == {"agents": ["p1"], "run_ids": ["8"]}


def test_who_has_no_good_credential_is_refused_as_the_contract_says(url: str, tokens: Tokens) -> None:
    """Scenarios 22 of swf-monitor.md and 15 of swf-clients.md."""
    bad: tuple[dict[str, str], ...] = (
        {},
        {"Authorization": "Token 0123456789abcdef0123456789abcdef01234567"},
        {"Accept": "text/event-stream"},
    )
    for headers in bad:
        reply = get(url, PATH, headers)
        assert (reply.status_code, reply.text) == (401, NOT_PROVIDED)
        assert reply.headers["content-type"] == "application/json"
        assert "www-authenticate" not in reply.headers
    assert get(url, f"{PATH}?token={tokens.header('stream:read')['Authorization'].split()[1]}").status_code == 401
    for path in (PATH, STATUS):
        denied = get(url, path, tokens.header("stream:write"))
        assert (denied.status_code, denied.json()) == (403, DENIED)
    absent, wrong = get(url, STATUS), get(url, STATUS, bad[1])
    assert (absent.status_code, absent.json()["detail"]) == (403, "Authentication credentials were not provided.")
    assert (wrong.status_code, wrong.json()["detail"]) == (403, "Invalid token.")
    good = tokens.header("stream:read")
    assert get(url, STATUS, good | {"Accept": "text/event-stream"}).status_code == 406
    assert get(url, STATUS, good | {"Accept": "application/json"}).status_code == 200
    assert requests.post(url + STATUS, headers=good, timeout=10).status_code == 405


def test_a_browser_that_is_logged_in_needs_no_token(url: str, tokens: Tokens) -> None:
    client = Follower(url, "", tokens.session("reader", proven=False))
    assert client.status == 200
    assert client.event().name == "connected"
    client.close()


def test_the_path_behaves_like_every_other(url: str, tokens: Tokens) -> None:
    good = tokens.header("stream:read")
    redirect = get(url, PATH[:-1] + "?msg_types=a")
    assert (redirect.status_code, redirect.headers["location"]) == (301, f"{PATH}?msg_types=a")
    assert requests.head(url + PATH, headers=good, timeout=10).headers["content-type"] == "text/event-stream"
    assert requests.post(url + PATH, headers=good, timeout=10).status_code == 405
    assert requests.post(url + PATH, timeout=10).status_code == 401


def test_what_cannot_be_read_is_400_and_named(url: str, tokens: Tokens) -> None:
    for query, field in (
        ("?after=7", "after"),
        ("?after=x-1", "after"),
        ("?after=1-01", "after"),
        ("?after=%00", "after"),
        ("?extras=perhaps", "extras"),
        ("?msg_types=a%00b", "msg_types"),
        ("?run_ids=" + ",".join(map(str, range(101))), "run_ids"),
        ("?agents=" + 256 * "x", "agents"),
    ):
        reply = get(url, PATH + query, tokens.header("stream:read"))
        assert reply.status_code == 400, query
        assert list(reply.json()) == [field]


def test_odd_filters_are_filters(url: str, follow: Follow) -> None:
    for query in ("?msg_types=%FF%FE", "?agents='%3B--", "?namespaces=%0d%0aevent:%20x", "?x=1&format=no"):
        follow(url, query)


def test_no_query_and_no_id_makes_the_stream_fail(client: TestClient, tokens: Tokens) -> None:
    """HEAD reads all that GET does, and ends."""
    names = ("msg_types", "agents", "run_ids", "namespaces", "execution_ids", "after", "extras")
    odd = "a,1-\0\x1f\x7f\x85\u2028\ufeff\U0001f600%&=;+ \"'<\\"
    headers, chance = tokens.header("stream:read"), Random(1)
    for _ in range(300):
        query = {chance.choice(names): "".join(chance.choices(odd, k=chance.randrange(20))) for _ in range(3)}
        last = "".join(chance.choices("".join(filter(str.isascii, odd[:4])), k=chance.randrange(20)))
        reply = client.head(PATH, params=query, headers=headers | {"Last-Event-ID": last})
        assert reply.status_code in (200, 400), (query, last)


def test_a_message_type_cannot_break_the_framing_and_others_see_what_it_says(
    url: str, publish: Publisher, follow: Follow
) -> None:
    client = follow(url)
    publish("söme type: x", text="line\nbreak \u2028 \U0001f600", number=10**30, nothing=None)
    event = client.next()
    assert event.name == "söme type: x"
    assert event.data["text"] == "line\nbreak \u2028 \U0001f600"
    assert event.data["number"] == 10**30
    assert client.raw.rsplit(b"data: ")[-1].isascii()


def test_what_is_there_already_is_not_overwritten(url: str, publish: Publisher, follow: Follow) -> None:
    client = follow(url)
    publish("a", sender="s", sender_agent="other", namespace=None, queue_name=5, sent_at="then", recipient="r")
    data = client.next().data
    assert data["sender_agent"] == "other"
    assert data["queue_name"] == 5
    assert data["sent_at"] == "then"
    assert data["recipient_agent"] == "r"


def test_what_was_told_before_and_what_is_no_message_is_not_told(url: str, publish: Publisher, follow: Follow) -> None:
    client = follow(url)
    publish("again", replayed=True)
    publish.raw("messages.accepted._.x", b"not json", {})
    publish.raw("messages.accepted._.x", b"[1]", {"Sluice-Id": "x"})
    last = publish("last")
    event = client.next()
    assert event.name == "last"
    assert event.id.endswith(f"-{last}")


def test_no_more_clients_than_may_be(
    make_app: AppMaker, nats_server: NatsServer, publish: Publisher, follow: Follow, tokens: Tokens
) -> None:
    with serving(make_app(nats_url=nats_server.url(), sse_clients=1)) as served:
        follow(served.url)
        refused = get(served.url, PATH, tokens.header("stream:read"))
        assert refused.status_code == 503
        assert refused.headers["retry-after"] == "1"


def test_without_nats_a_client_is_told_to_come_back(make_app: AppMaker, tokens: Tokens) -> None:
    with serving(make_app()) as served:
        assert get(served.url, PATH, tokens.header("stream:read")).status_code == 503
