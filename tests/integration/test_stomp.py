"""Agents with their broker against `sluice up` alone: scenarios of swf-clients.md 12, and 28 of swf-monitor.md."""

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from sluice_core.testing import eventually
from sluice_core.testing.stomp import Spot
from tests.integration import stomp_agent
from tests.integration.platforms import BIN, Client, Up, clean_environment
from tests.integration.test_agents import AGENTS, Process, variables

SCRIPT = Path(stomp_agent.__file__)
CONTROL = "/queue/workflow_control"
TOPIC = "/topic/epictopic"


@pytest.fixture(scope="module")
def environment(platform: Up) -> dict[str, str]:
    """What `sluice env` prints: it alone leads agents to the door."""
    return variables(platform)


@pytest.fixture(scope="module")
def spot(platform: Up) -> Spot:
    return Spot(platform.stomp, "admin", platform.token)


@contextmanager
def living(environment: dict[str, str], *arguments: str) -> Iterator[Process]:
    process = Process(environment, *arguments, script=SCRIPT)
    try:
        yield process
    finally:
        process.kill()


def said(process: Process, event: str = "message") -> list[dict[str, Any]]:
    return [each["message"] for each in process.told.copy() if each["event"] == event]


def listed(client: Client, name: str) -> dict[str, Any]:
    (found,) = client.get(AGENTS, params={"instance_name": name}).json()
    return dict(found)


def test_an_agent_boots_and_ends_scenario_1_of_swf_clients_and_28_of_swf_monitor(
    client: Client, environment: dict[str, str], spot: Spot
) -> None:
    names = []
    for number in (signal.SIGQUIT, signal.SIGTERM):
        namespace = uuid4().hex
        with living(environment, "--namespace", namespace) as agent:
            ready = agent.until("ready")
            agent.until("logged")
            name = ready["name"]
            asked = [(method, endpoint) for method, endpoint, _ in agent.requests()]
            assert asked[:3] == [
                ("POST", "/state/next-agent-id/"),
                ("POST", "/subscribers/"),
                ("POST", "/systemagents/heartbeat/"),
            ]
            row = ready["listed"]
            assert (row["status"], row["operational_state"]) == ("OK", "READY")
            assert (row["namespace"], row["pid"], bool(row["hostname"])) == (namespace, agent.pid, True)
            with spot.agent() as other:
                other.send_surely(TOPIC, json.dumps({"msg_type": "test", "namespace": namespace}))
            eventually(lambda: said(agent))
            assert client.get("/api/logs/", params={"instance_name": name}).json()
            assert agent.end(number) < 5
        row = listed(client, name)
        assert (row["status"], row["operational_state"]) == ("EXITED", "EXITED")
        names.append(name)
    assert len(set(names)) == 2


def test_two_runners_share_the_control_queue_scenario_7_of_swf_clients(environment: dict[str, str], spot: Spot) -> None:
    """Must show 3: also for a command that comes before the first heartbeat of its runner."""
    ann, bob = f"ann-{uuid4().hex}", f"bob-{uuid4().hex}"
    options = ("--kind", "DAQ_Simulator", "--destination", CONTROL)
    with spot.agent(f"cmd-sender-{uuid4().hex}") as sender:

        def command(namespace: str, number: int) -> None:
            body = {"msg_type": "run_workflow", "workflow_name": "x", "namespace": namespace, "number": number}
            sender.send_surely(CONTROL, json.dumps(body))

        command(bob, 0)
        command(ann, 0)
        with living(environment, "--namespace", ann, *options) as first:
            first.until("ready")
            eventually(lambda: said(first))
            with living(environment, "--namespace", bob, *options) as second:
                second.until("ready")
                for number in range(1, 20):
                    command(ann, number)
                    command(bob, number)
                for runner in (first, second):
                    eventually(lambda: len(said(runner)) == 20)  # noqa: B023
                    assert [each["number"] for each in said(runner)] == list(range(20))
                    assert said(runner, "foreign") == []
        # While its runner is away, a command waits.
        command(bob, 20)
        with living(environment, "--namespace", bob, *options) as again:
            again.until("ready")
            eventually(lambda: [each["number"] for each in said(again)] == [20])


def test_a_prompt_agent_that_is_killed_goes_on_where_it_was_scenario_12_of_swf_clients(
    client: Client, environment: dict[str, str], spot: Spot
) -> None:
    """The part of the bus, by an agent that does with files what the real one does."""
    namespace = uuid4().hex
    run = client.post("/api/runs/", {"run_number": 771201, "start_time": "2026-05-05T10:00:00", "run_conditions": {}})
    options = ("--kind", "PROCESSING", "--namespace", namespace)

    def file(number: int) -> str:
        name = f"swf.771201.{number:06}.stf"
        body = {"run": run.json()["run_id"], "stf_filename": name, "file_size_bytes": 1, "machine_state": "run"}
        made = client.post("/api/stf-files/", {**body, "status": "registered", "metadata": {"sequence": number}})
        assert made.status_code == 201, made.text
        return str(made.json()["file_id"])

    def of(known: str) -> dict[str, Any]:
        return dict(client.get(f"/api/stf-files/{known}/").json())

    ready = json.dumps({"msg_type": "stf_ready", "namespace": namespace, "run_id": "771201", "req_id": 1})
    files = [file(1), file(2)]
    with spot.agent() as daq:
        with living(environment, "--role", "holding-prompt", *options) as agent:
            agent.until("ready")
            daq.send_surely(TOPIC, ready)
            eventually(lambda: said(agent))
            assert [of(each)["status"] for each in files] == ["processing"] * 2
        with living(environment, "--role", "prompt", *options) as agent:
            agent.until("ready")
            assert [of(each)["status"] for each in files] == ["processed"] * 2
            files.append(file(3))
            daq.send_surely(TOPIC, ready)
            eventually(lambda: said(agent))
            assert agent.end() < 10
    for known in files:
        row = of(known)
        assert row["status"] == "processed"
        assert (row["metadata"]["panda_task_id"], row["metadata"]["matched_input_files"]) == (
            4242,
            [row["stf_filename"]],
        )


def test_a_manager_answers_and_refuses_scenario_14_of_swf_clients(
    client: Client, environment: dict[str, str], spot: Spot
) -> None:
    user = uuid4().hex
    control, replies = f"/queue/agent_control.{user}", f"/queue/replies.{user}"
    options = ("--role", "manager", "--kind", "agent_manager", "--user", user, "--namespace", user)
    with spot.agent() as asker, living(environment, *options, "--destination", control) as manager:
        name = manager.until("ready")["name"]
        asker.subscribe(replies)
        began = time.monotonic()
        asker.send(control, json.dumps({"command": "ping", "reply_to": replies, "source": "mcp"}))
        (reply,) = asker.bodies(1)
        print(f"ping to reply: {(time.monotonic() - began) * 1000:.0f} ms")
        assert (json.loads(reply)["status"], json.loads(reply)["username"]) == ("alive", user)
        # As the server's tools send it.
        sent = client.post("/api/messages/", {"destination": control, "message": {"command": "start_testbed"}})
        assert sent.status_code == 202, sent.text
        eventually(lambda: len(said(manager)) == 2)
        logged = eventually(lambda: client.get("/api/logs/", params={"instance_name": name, "level": 30}).json())
        assert "start refused" in json.dumps(logged)


def test_sluice_stomp_shows_clients_destinations_and_what_waits(platform: Up, spot: Spot) -> None:
    queue, me = f"/queue/{uuid4().hex}", uuid4().hex
    shown = [str(BIN / "sluice"), "stomp"]
    environment = clean_environment(SLUICE_DATA=str(platform.data))
    with spot.agent(me) as agent:
        agent.subscribe("/topic/shown", **{"activemq.subscriptionName": "kept"})
        agent.send_surely(queue)
        agent.send_surely(queue)
        found = json.loads(subprocess.check_output([*shown, "--json"], env=environment))
        text = subprocess.check_output(shown, env=environment, text=True)
        assert found["active"] is True
        assert found["ports"] == [spot.address[1]]
        (mine,) = [each for each in found["connections"] if each["client_id"] == me]
        assert (mine["user"], mine["version"]) == ("admin", "1.1")
        assert [each["destination"] for each in mine["subscriptions"]] == ["/topic/shown"]
        (place,) = [each for each in found["destinations"] if each["destination"] == queue]
        assert (place["waiting"], place["subscribers"]) == (2, 0)
        (kept,) = [each for each in found["durables"] if each["client_id"] == me]
        assert (kept["name"], kept["subscribed"]) == ("kept", True)
        assert queue[:8] in text
        agent.subscribe(queue, known="2")
        agent.bodies(2)
        agent.sure(lambda more: agent.connection.unsubscribe("1", headers=more))
        agent.sure(
            lambda more: agent.connection.unsubscribe("1", headers={"activemq.subscriptionName": "kept", **more})
        )
