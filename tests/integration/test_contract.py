"""Acceptance scenarios of swf-monitor.md, section 17, by their numbers; where they speak of runs, on `systemagents`."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pytest

from tests.integration.conftest import PREFIX, Numbers
from tests.integration.platforms import Client, Up

AGENTS = "/api/systemagents/"
HEARTBEAT = f"{AGENTS}heartbeat/"
NOT_PROVIDED = {"detail": "Authentication credentials were not provided."}

_names = count(1)


def name(of: str = "agent") -> str:
    """Return a name that no other test has."""
    return f"{of}-{next(_names)}"


def record(**more: Any) -> dict[str, Any]:
    """Return a log record as the agents' library sends it."""
    return {
        "app_name": "base_agent",
        "instance_name": name("data-agent-ada"),
        "timestamp": "2026-05-05T10:00:00.123456",
        "level": 20,
        "levelname": "INFO",
        "message": "hello",
        "module": "base_agent",
        "funcname": "run",
        "lineno": 7,
        "process": 12,
        "thread": 140713671113600,
        "extra_data": {"username": "ada"},
        **more,
    }


@pytest.fixture
def closed(campus: Up) -> Iterator[Client]:
    """Without a token, where reads are closed."""
    client = campus.client(anonymous=True)
    yield client
    client.close()


def test_1_an_anonymous_read_is_refused_where_reads_are_closed(closed: Client) -> None:
    refused = closed.get(AGENTS)
    assert (refused.status_code, refused.json()) == (403, NOT_PROVIDED)
    assert "WWW-Authenticate" not in refused.headers
    bad = closed.get(AGENTS, headers={"Authorization": "Token bad"})
    assert (bad.status_code, bad.json()) == (403, {"detail": "Invalid token."})


def test_2_run_numbers_begin_at_100010_want_a_token_and_a_post(
    client: Client, stranger: Client, first_numbers: Numbers
) -> None:
    path = "/api/state/next-run-number/"
    refused = stranger.post(path)
    assert (refused.status_code, refused.json()) == (401, NOT_PROVIDED)
    assert refused.headers["WWW-Authenticate"] == "Token"
    assert first_numbers["next-run-number"] == [
        {"run_number": 100010, "status": "success"},
        {"run_number": 100011, "status": "success"},
    ]
    got = client.get(path)
    assert (got.status_code, got.json()) == (405, {"detail": 'Method "GET" not allowed.'})
    assert got.headers["Allow"] == "POST, OPTIONS"


def test_2_sixty_parallel_posts_get_sixty_consecutive_numbers(client: Client, platform: Up) -> None:
    before = client.post("/api/state/next-run-number/").json()["run_number"]
    with ThreadPoolExecutor(60) as threads:
        answers = list(threads.map(lambda _: platform.client().post("/api/state/next-run-number/").json(), range(60)))
    assert sorted(answer["run_number"] for answer in answers) == list(range(before + 1, before + 61))


def test_3_agent_and_execution_ids_begin_at_1(first_numbers: Numbers) -> None:
    assert first_numbers["next-agent-id"][0] == {"agent_id": 1, "status": "success"}
    assert first_numbers["next-workflow-execution-id"][0] == {"sequence": 1, "status": "success"}


def test_4_a_path_without_its_slash_is_redirected(client: Client) -> None:
    answer = client.post("/api/systemagents", {"instance_name": name(), "agent_type": "data"})
    assert (answer.status_code, answer.content) == (301, b"")
    assert answer.headers["Location"].endswith("/api/systemagents/")
    assert "X-Frame-Options" not in answer.headers


def test_8_put_keeps_optional_keys_that_are_absent(client: Client) -> None:
    mine = name()
    agent = client.post(AGENTS, {"instance_name": mine, "agent_type": "test", "current_stf_count": 5}).json()
    path = f"{AGENTS}{agent['id']}/"
    put = client("PUT", path, json={"instance_name": mine, "agent_type": "data"})
    assert put.status_code == 200
    assert (put.json()["agent_type"], put.json()["current_stf_count"]) == ("data", 5)
    incomplete = client("PUT", path, json={"instance_name": mine})
    assert (incomplete.status_code, incomplete.json()) == (400, {"agent_type": ["This field is required."]})


def test_9_a_heartbeat_creates_an_agent_and_then_updates_it(client: Client) -> None:
    beat = {
        "instance_name": name("daq"),
        "agent_type": "DAQ_Simulator",
        "status": "OK",
        "mq_connected": True,
        "pid": 12,
        "hostname": "h",
        "operational_state": "READY",
        "namespace": "n1",
    }
    first, second = client.post(HEARTBEAT, beat), client.post(HEARTBEAT, beat)
    assert (first.status_code, second.status_code) == (201, 200)
    assert first.json()["id"] == second.json()["id"]
    (listed,) = [each for each in client.get(AGENTS).json() if each["instance_name"] == beat["instance_name"]]
    assert {key: listed[key] for key in beat if key != "mq_connected"} == {
        key: value for key, value in beat.items() if key != "mq_connected"
    }


def test_9_a_heartbeat_without_a_name_and_a_create_of_an_unlisted_type_are_400(client: Client) -> None:
    nameless = client.post(HEARTBEAT, {})
    assert (nameless.status_code, nameless.json()) == (400, {"instance_name": ["This field is required."]})
    unlisted = client.post(AGENTS, {"instance_name": name(), "agent_type": "DAQ_Simulator"})
    assert unlisted.status_code == 400
    assert unlisted.json() == {"agent_type": ['"DAQ_Simulator" is not a valid choice.']}


def test_10_an_agent_silent_for_181_seconds_is_exited_when_another_beats(client: Client) -> None:
    silent = client.post(HEARTBEAT, {"instance_name": name(), "operational_state": "READY"}).json()
    never = client.post(AGENTS, {"instance_name": name(), "agent_type": "test"}).json()
    then = (datetime.now(UTC) - timedelta(seconds=181)).isoformat()
    turned = client("PATCH", f"{AGENTS}{silent['id']}/", json={"last_heartbeat": then})
    assert turned.status_code == 200
    assert client.post(HEARTBEAT, {"instance_name": name()}).status_code == 201
    after = client.get(f"{AGENTS}{silent['id']}/").json()
    assert (after["status"], after["operational_state"]) == ("EXITED", "EXITED")
    assert client.get(f"{AGENTS}{never['id']}/").json() == never


def test_11_a_subscriber_that_registers_again_gets_the_400_that_agents_look_for(client: Client) -> None:
    body = {"subscriber_name": f"{name()}-/topic/epictopic", "is_active": True, "fraction": 1.0}
    assert client.post("/api/subscribers/", body).status_code == 201
    again = client.post("/api/subscribers/", body)
    assert again.status_code == 400
    assert again.json() == {"subscriber_name": ["subscriber with this subscriber name already exists."]}


def test_12_a_log_record_needs_no_token_also_from_this_machine(stranger: Client) -> None:
    answer = stranger.post("/api/logs/", record())
    assert answer.status_code == 201
    assert answer.json()["id"] > 0
    assert answer.json()["timestamp"] == "2026-05-05T10:00:00.123456Z"
    assert answer.json()["thread"] == 140713671113600


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"level": 25}, {"level": ['"25" is not a valid choice.']}),
        ({"message": ""}, {"message": ["This field may not be blank."]}),
    ],
    ids=str,
)
def test_12_a_wrong_log_record_is_400(stranger: Client, wrong: dict[str, Any], said: dict[str, Any]) -> None:
    answer = stranger.post("/api/logs/", record(**wrong))
    assert (answer.status_code, answer.json()) == (400, said)


def test_13_logs_are_listed_newest_first_whatever_came_first(client: Client, stranger: Client) -> None:
    mine = name()
    for second in (2, 9, 5):
        sent = record(instance_name=mine, timestamp=f"2026-05-05T10:00:0{second}")
        assert stranger.post("/api/logs/", sent).status_code == 201
    of_mine = [each["timestamp"][-3:-1] for each in client.get("/api/logs/").json() if each["instance_name"] == mine]
    assert of_mine == ["09", "05", "02"]


def test_13_the_summary_counts_and_shows_errors(client: Client, stranger: Client) -> None:
    app, instance = name("app"), name()
    sent = record(app_name=app, instance_name=instance, level=40, levelname="ERROR", message="lost link")
    stranger.post("/api/logs/", sent)
    found = client.get("/api/logs/summary/").json()[app][instance]
    assert found["error_counts"] == {"ERROR": 1}
    (error,) = found["recent_errors"]
    assert list(error) == ["timestamp", "levelname", "message", "module", "funcname", "lineno"]
    assert error["timestamp"].endswith("Z")


def test_17_a_namespace_stays_with_its_first_owner(client: Client) -> None:
    mine = name("n")
    first = client.post("/api/namespaces/ensure/", {"name": mine, "owner": "ada"})
    again = client.post("/api/namespaces/ensure/", {"name": mine, "owner": "bob"})
    found = {"name": mine, "owner": "ada", "description": "", "created": True, "status": "success"}
    assert (first.status_code, first.json()) == (200, found)
    assert (again.status_code, again.json()) == (200, found | {"created": False})
    nameless = client.post("/api/namespaces/ensure/", {"owner": "x"})
    assert (nameless.status_code, nameless.json()) == (400, {"error": "name is required", "status": "error"})


@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
def test_30_the_index_and_the_redirect_carry_the_prefix(campus: Up, tls: bool) -> None:
    client = campus.client(anonymous=True, tls=tls)
    assert client.url.endswith(PREFIX)
    verify = {"verify": str(campus.data / "tls" / "cert.pem")} if tls else {}
    index = client.get("/api/", **verify).json()
    assert index["systemagents"] == f"{client.url}/api/systemagents/"
    assert len(index) == 15
    assert all(url.startswith(f"{client.url}/api/") for url in index.values())
    redirect = client.get("/api/systemagents", **verify)
    assert (redirect.status_code, redirect.headers["Location"]) == (301, f"{PREFIX}/api/systemagents/")
    outside = client("GET", "", **verify)
    assert outside.status_code == 404
