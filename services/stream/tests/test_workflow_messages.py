"""``/api/workflow-messages/`` (contract 3.9)."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from starlette.testclient import TestClient

from sluice_core.testing.apps import AppMaker, Start
from sluice_core.testing.tokens import Tokens
from sluice_stream.messages import Message
from sluice_stream.recorder import Recorder
from sluice_stream.tables import workflow_message

URL = "/api/workflow-messages/"
DENIED = {"detail": "You do not have permission to perform this action."}
THERE, ABSENT = uuid4(), uuid4()


@pytest.fixture
def agent(client: TestClient, tokens: Tokens) -> TestClient:
    client.headers.update(tokens.header("stream:write"))
    return client


@pytest.fixture(scope="module")
def runs() -> Iterator[str]:
    """A runs service that has one workflow."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            there = self.path == f"/api/workflows/{THERE}/"
            self.send_response(200 if there else 404)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_message_comes_back_whole_and_in_the_order_of_the_contract(agent: TestClient) -> None:
    before = datetime.now(UTC)
    reply = agent.post(URL, json={"message_type": "stf_gen", "message_content": {"a": [1, None]}, "sender_type": ""})
    assert reply.status_code == 201, reply.text
    row = reply.json()
    assert UUID(row.pop("message_id"))
    assert abs(datetime.fromisoformat(row.pop("sent_at")) - before) < timedelta(minutes=1)
    assert row == {
        "message_type": "stf_gen",
        "request_id": None,
        "sender_agent": None,
        "sender_type": "",
        "recipient_agent": None,
        "recipient_type": None,
        "namespace": None,
        "execution_id": None,
        "run_id": None,
        "message_content": {"a": [1, None]},
        "message_metadata": {},
        "delivered_at": None,
        "acknowledged_at": None,
        "is_successful": None,
        "error_message": None,
        "queue_name": None,
        "correlation_id": None,
        "workflow": None,
        "stage": None,
    }
    assert list(reply.json()) == [column.name for column in workflow_message.columns]


@pytest.mark.parametrize(
    ("given", "errors"),
    [
        ({}, {"message_type": ["This field is required."], "message_content": ["This field is required."]}),
        ({"message_type": "x", "message_content": None}, {"message_content": ["This field may not be null."]}),
        (
            {"message_type": "x" * 51, "message_content": 1},
            {"message_type": ["Ensure this field has no more than 50 characters."]},
        ),
        (
            {"message_type": "x", "message_content": 1, "sender_type": "boss"},
            {"sender_type": ['"boss" is not a valid choice.']},
        ),
        (
            {"message_type": "x", "message_content": 1, "workflow": "abc"},
            {"workflow": ["“abc” is not a valid UUID."]},
        ),
        (
            {"message_type": "x", "message_content": 1, "stage": [1]},
            {"stage": ["Incorrect type. Expected pk value, received list."]},
        ),
    ],
)
def test_what_the_table_does_not_allow_is_400_and_named(
    agent: TestClient, given: dict[str, Any], errors: dict[str, list[str]]
) -> None:
    reply = agent.post(URL, json=given)
    assert (reply.status_code, reply.json()) == (400, errors)
    assert agent.get(URL).json() == []


def test_a_workflow_is_asked_for_where_it_is_owned(make_app: AppMaker, tokens: Tokens, start: Start, runs: str) -> None:
    client = start(shared={"peer_url": runs})
    client.headers.update(tokens.header("stream:write"))
    row = {"message_type": "x", "message_content": {}}
    created = client.post(URL, json={**row, "workflow": str(THERE)})
    assert (created.status_code, created.json()["workflow"]) == (201, str(THERE))
    for name, key in (("workflow", ABSENT), ("stage", THERE)):
        reply = client.post(URL, json={**row, name: str(key)})
        assert (reply.status_code, reply.json()) == (400, {name: [f'Invalid pk "{key}" - object does not exist.']})
    reply = client.post(URL, json={**row, "workflow": 5})
    assert reply.json() == {"workflow": ['Invalid pk "5" - object does not exist.']}
    assert client.post(URL, json={**row, "workflow": None, "stage": ""}).status_code == 201
    path = f"{URL}{created.json()['message_id']}/"
    assert client.patch(path, json={"workflow": str(ABSENT)}).status_code == 400
    # A filter asks nobody.
    assert [row["workflow"] for row in client.get(f"{URL}?workflow={THERE}").json()] == [str(THERE)]
    assert client.get(f"{URL}?workflow={ABSENT}").json() == []


def test_without_a_runs_service_an_id_is_an_id(agent: TestClient) -> None:
    reply = agent.post(URL, json={"message_type": "x", "message_content": {}, "stage": str(ABSENT)})
    assert (reply.status_code, reply.json()["stage"]) == (201, str(ABSENT))


def test_the_newest_come_first_and_filters_narrow_the_list(agent: TestClient) -> None:
    for number in range(3):
        agent.post(
            URL,
            json={
                "message_type": f"t{number}",
                "message_content": {},
                "run_id": number,
                "namespace": "n",
                "execution_id": "e" if number else None,
                "is_successful": number != 1,
            },
        )

    def types(query: str) -> list[str]:
        reply = agent.get(URL + query)
        assert reply.status_code == 200, reply.text
        return [row["message_type"] for row in reply.json()]

    assert types("") == ["t2", "t1", "t0"]
    assert types("?run_id=1") == ["t1"]
    assert types("?execution_id=e&is_successful=true") == ["t2"]
    assert types("?message_type=t0&namespace=n") == ["t0"]
    assert types("?start_time=2126-01-01T00:00:00") == []
    assert types("?end_time=2126-01-01T00:00:00") == ["t2", "t1", "t0"]
    assert agent.get(f"{URL}?limit=2").json()["count"] == 3


@pytest.mark.parametrize("query", ["?is_successful=perhaps", "?start_time=soon", "?workflow=abc"])
def test_a_filter_that_cannot_be_read_is_400(agent: TestClient, query: str) -> None:
    assert agent.get(URL + query).status_code == 400


def test_a_caller_of_some_namespaces_writes_only_there(client: TestClient, tokens: Tokens) -> None:
    mine = tokens.header("stream:write", namespaces=["mine"])
    row = {"message_type": "x", "message_content": {}}
    assert client.post(URL, json={**row, "namespace": "mine"}, headers=mine).status_code == 201
    for other in ("theirs", None):
        reply = client.post(URL, json={**row, "namespace": other}, headers=mine)
        assert (reply.status_code, reply.json()) == (403, DENIED)


def test_old_messages_are_deleted_by_age(make_app: AppMaker) -> None:
    service = make_app().state.service
    recorder = Recorder(service.database, retention=timedelta(days=1))
    rows = [
        {"message_id": uuid4(), "message_type": "x", "message_content": {}, "sent_at": datetime.now(UTC) - age}
        for age in (timedelta(hours=23), timedelta(hours=25), timedelta(days=9))
    ]
    service.database.transact(lambda connection: connection.execute(sa.insert(workflow_message), rows))
    assert recorder.forget() == 2
    assert recorder.forget() == 0
    assert Recorder(service.database, retention=timedelta(0)).forget() == 0
    left = service.database.read(lambda connection: connection.execute(sa.select(workflow_message.c.message_id)).all())
    assert left == [(rows[0]["message_id"],)]
    service.database.close()


async def test_a_message_that_comes_again_is_recorded_once_with_what_it_says(make_app: AppMaker) -> None:
    from sluice_core.bus import Message as Delivery

    service = make_app().state.service
    recorder = Recorder(service.database, retention=timedelta(0))
    said = {
        "msg_type": "end_run",
        "sender": "daq-1",
        "recipient": "data-1",
        "namespace": "n1",
        "execution_id": "e-1",
        "run_id": 100010,
        "total_stf_files": 4,
    }
    at = datetime(2026, 5, 5, 10, 0, 0, 123456, tzinfo=UTC)
    message = Message(uuid4(), "/topic/epictopic", at, json.dumps(said).encode())

    def delivery(headers: dict[str, str]) -> Delivery:
        return Delivery("messages.accepted.n1.end_run", message.body, headers, "MESSAGES", 1, at, 1, None, "")  # type: ignore[arg-type]

    for _ in range(2):
        rejected = await recorder.handle([delivery(message.headers), delivery(message.headers), delivery({})])
        assert [why for _, why in rejected] == ["no workflow message: no header Sluice-Id"]
    (row,) = service.database.read(lambda connection: connection.execute(sa.select(workflow_message)).mappings().all())
    metadata = row["message_metadata"]
    assert set(metadata) == {"created_by", "process_pid", "processed_at", "django_instance", "destination"}
    assert {name: row[name] for name in row if row[name] is not None and name != "message_metadata"} == {
        "message_id": message.id,
        "message_type": "end_run",
        "sender_agent": "daq-1",
        "recipient_agent": "data-1",
        "namespace": "n1",
        "execution_id": "e-1",
        "run_id": "100010",
        "message_content": said,
        "sent_at": at,
        "is_successful": True,
        "queue_name": "epictopic",
    }
    service.database.close()
