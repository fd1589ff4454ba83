"""Runs that ``sluice simulate`` plays, at a real broker and the whole platform (swf-clients.md 8.1 and 12)."""

import asyncio
import json
import queue
import subprocess
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import pytest

from sluice_core.cli import Api
from sluice_core.subjects import token
from sluice_core.testing import eventually
from sluice_core.testing.activemq import PASSWORD, USER, Broker
from sluice_simulator.bus import CONTROL, RESULTS, SLICES, TOPIC, Address, BusConnection, Received
from sluice_simulator.plan import Plan
from sluice_simulator.roles import Fast, Runner, Workers
from sluice_simulator.roles.agent import Site, now
from sluice_simulator.simulation import Options, Simulation
from tests.integration.platforms import BIN, Client, Up, clean_environment, samples

SHORT = [
    word
    for name in ("no_beam_not_ready", "beam_not_ready", "beam_ready", "beam_not_ready_end", "broadcast")
    for word in ("--daq", f"{name}_delay=1")
] + ["--daq", "stf_interval=1"]
LIFECYCLE = ["run_imminent", "start_run", "pause_run", "resume_run", "end_run"]
# Section 8.1, its check values.
TICKS = [
    ("run_imminent", 1),
    ("start_run", 4.1),
    ("stf_gen", 5.2),
    ("stf_gen", 6.4),
    ("pause_run", 6.6),
    ("resume_run", 9.7),
    ("stf_gen", 10.8),
    ("stf_gen", 12.0),
    ("end_run", 12.2),
    ("completed", 14.3),
]


@pytest.fixture(scope="module")
def bridged(tmp_path_factory: pytest.TempPathFactory, broker: Broker) -> Iterator[Up]:
    host, port = broker.address
    login = {"ACTIVEMQ_USER": USER, "ACTIVEMQ_PASSWORD": PASSWORD, "SLUICE_STREAM_ACTIVEMQ_CLIENT_ID": uuid4().hex}
    data = tmp_path_factory.mktemp("bridged") / "data"
    with Up(data, ACTIVEMQ_HOST=host, ACTIVEMQ_PORT=str(port), **login) as up:
        eventually(lambda: list(samples(up.admin, "sluice_bridge_connected").values()) == [1.0], 30)
        yield up


@pytest.fixture
def api(bridged: Up) -> Iterator[Client]:
    client = bridged.client()
    yield client
    client.close()


def site(up: Up, broker: Broker, namespace: str = "", **more: Any) -> Site:
    """Return where agents of a test find everything; a namespace of the test's own, unless one is named."""
    return Site(up.http, up.token, Address(*broker.address, USER, PASSWORD), namespace or uuid4().hex, "ada", **more)


def simulate(up: Up, broker: Broker, *options: str) -> dict[str, Any]:
    """Run the command as people do, with the variables of agents; return what it says."""
    host, port = broker.address
    environment = clean_environment(
        SWF_MONITOR_URL=up.http,
        SWF_API_TOKEN=up.token,
        ACTIVEMQ_HOST=host,
        ACTIVEMQ_PORT=str(port),
        ACTIVEMQ_USER=USER,
        ACTIVEMQ_PASSWORD=PASSWORD,
    )
    command: list[str | Path] = [BIN / "sluice", "simulate", "run", "--json", *options]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stdout + done.stderr
    summary: dict[str, Any] = json.loads(done.stdout)
    return summary


class Played(NamedTuple):
    """A run with the check values, and what a receiver of the event stream saw of it."""

    summary: dict[str, Any]
    events: list[dict[str, Any]]


@pytest.fixture(scope="module")
def played(bridged: Up, broker: Broker) -> Played:
    events: list[dict[str, Any]] = []
    listens = threading.Event()

    def listen() -> None:
        with Api(bridged.http, bridged.token) as stream:
            for event in stream.follow("/api/messages/stream/", msg_types=",".join([*LIFECYCLE, "stf_gen"])):
                listens.set()
                if event.name != "connected":
                    events.append(json.loads(event.data))
                    if event.name == "end_run":
                        return

    receiver = threading.Thread(target=listen, name="receiver", daemon=True)
    receiver.start()
    assert listens.wait(10)
    summary = simulate(bridged, broker, "--stfs", "2", "--periods", "2", "--namespace", "checked", *SHORT)
    receiver.join(20)
    return Played(summary, events)


def test_at_1x_each_step_comes_at_its_second_of_section_8_1(played: Played, api: Client) -> None:
    ticks = [(what, pytest.approx(at)) for what, at in TICKS]
    assert [tuple(each) for each in played.summary["ticks"]] == ticks
    sent = api.get("/api/workflow-messages/", params={"namespace": "checked"}).json()
    mine = [row["message_content"] for row in sent if row["sender_agent"].startswith("daq_simulator")]
    at = sorted((said["simulation_tick"], datetime.fromisoformat(said["timestamp"])) for said in mine)
    assert [tick for tick, _ in at] == [each for _, each in ticks[:-1]]
    first_tick, first = at[0]
    for tick, moment in at:
        # Real seconds, and never early.
        assert moment - first >= timedelta(seconds=tick - first_tick - 0.05)


def test_scenario_3_a_full_fast_run(played: Played, api: Client) -> None:
    summary, number = played.summary, played.summary["run_number"]
    assert summary["ok"], summary
    assert summary["counts"]["stf_processed"] == 4
    stfs = api.get("/api/stf-files/", params={"run_number": number}).json()
    names = {f"swf.{number}.{sequence:06d}.stf" for sequence in range(1, 5)}
    assert {row["stf_filename"]: row["status"] for row in stfs} == dict.fromkeys(names, "processed")
    tfs = [row for row in api.get("/api/fastmon-files/").json() if row["stf_file"] in names]
    assert len({row["tf_filename"] for row in tfs}) == len(tfs) == 28
    assert all(row["tf_filename"].startswith(row["stf_file"].removesuffix(".stf") + "_tf_00") for row in tfs)
    slices = api.get("/api/tf-slices/", params={"run_number": number}).json()
    assert len(slices) == sum(-(-row["tf_count"] // 2) for row in tfs)
    assert len({(row["tf_filename"], row["slice_id"]) for row in slices}) == len(slices)
    assert {row["fastmon_file"] for row in slices} == {row["tf_filename"] for row in tfs}
    state = api.get(f"/api/run-states/{number}/").json()
    assert (state["phase"], state["state"]) == ("completed", "ended")
    counted = [state[name] for name in ("stf_samples_received", "slices_created", "slices_queued", "slices_failed")]
    assert counted == [28, len(slices), len(slices), 0]
    (run,) = api.get("/api/runs/", params={"run_number": number}).json()
    assert run["end_time"] is not None
    execution = api.get(f"/api/workflow-executions/{summary['execution_id']}/").json()
    assert (execution["status"], execution["namespace"]) == ("completed", "checked")
    recorded = api.get("/api/workflow-messages/", params={"namespace": "checked"}).json()
    for kind in LIFECYCLE:
        (row,) = (each for each in recorded if each["message_type"] == kind)
        assert row["sender_agent"].startswith("daq_simulator-agent-")
        assert row["message_content"]["execution_id"] == summary["execution_id"]
    assert [event["msg_type"] for event in played.events] == [what for what, _ in TICKS[:-1]]


def test_at_100x_every_file_is_processed_and_counters_are_the_rows(bridged: Up, broker: Broker) -> None:
    options = ("--stfs", "10", "--periods", "2", "--speed", "100x", "--tf", "3", "--slices", "5")
    summary = simulate(bridged, broker, *options, "--workers", "--batches")
    assert summary["counts"] == {
        "stf_generated": 20,
        "stf_processed": 20,
        "tf_registered": 60,
        "tf_processed": 60,
        "slices": 300,
        "results": 300,
    }
    assert summary["ok"], summary


def test_scenario_6_an_execution_that_cannot_be_holds_no_agent_up(bridged: Up, broker: Broker, api: Client) -> None:
    where = site(bridged, broker)
    imminent = {"msg_type": "run_imminent", "run_id": "7", "execution_id": "nope", "timestamp": now()}
    with Fast(where) as fast, Workers(where) as other:
        other.send(TOPIC, imminent)
        other.send(TOPIC, {**imminent, "msg_type": "pause_run"})
        # Had it tried again, as agents do after 404, it would not come to this for two minutes.
        eventually(lambda: api.get("/api/system-state-events/", params={"run_number": 7}).json())
        (problem,) = fast.problems
        assert "workflow-executions/nope/: 400" in problem
        assert fast.api.retries == 0


def test_scenario_8_a_run_that_is_stopped_is_closed_by_the_server(bridged: Up, broker: Broker, api: Client) -> None:
    plan = Plan(stfs=1000, speed=20, tfs=1, slices=1)
    simulation = Simulation(site(bridged, broker), plan, Options(controlled=True))
    found: queue.Queue[Any] = queue.Queue()
    thread = threading.Thread(target=lambda: found.put(simulation.run()), name="simulation")
    thread.start()
    try:
        eventually(lambda: simulation.data.processed, 20)
        # Like agents of its namespace, the sender knows the execution.
        said = {"msg_type": "stop_workflow", "execution_id": simulation.runner.execution_id, "timestamp": now()}
        simulation.data.send(CONTROL, said)
        summary = found.get(timeout=30)
    finally:
        simulation.runner.stop()
        thread.join()
    assert summary.stopped
    assert summary.problems == []
    assert "end_run" not in [what for what, _ in summary.ticks]
    execution = api.get(f"/api/workflow-executions/{summary.execution_id}/").json()
    assert execution["status"] == "terminated"
    assert execution["end_time"] is not None
    (run,) = api.get("/api/runs/", params={"run_number": summary.run_number}).json()
    assert run["end_time"] is not None
    state = api.get(f"/api/run-states/{summary.run_number}/").json()
    assert (state["phase"], state["state"]) == ("completed", "ended")


class Cut(NamedTuple):
    """A run with two TF files of five slices each."""

    site: Site
    number: int
    execution_id: str

    def slices(self, api: Client) -> list[dict[str, Any]]:
        """Return its slices, in the order in which they were made."""
        found: list[dict[str, Any]] = api.get("/api/tf-slices/", params={"run_number": self.number}).json()
        return found


@pytest.fixture
def cut(bridged: Up, broker: Broker) -> Cut:
    where = site(bridged, broker)
    summary = Simulation(where, Plan(stfs=1, tfs=2, slices=5, speed=100)).run()
    assert summary.ok, summary
    return Cut(where, summary.run_number, summary.execution_id)


def test_scenario_9_a_result_changes_exactly_its_slice(cut: Cut, bridged: Up, api: Client) -> None:
    before = cut.slices(api)
    # Of the second file: the first row with this slice id is another one.
    chosen = next(row for row in reversed(before) if row["slice_id"] == 3)
    with Fast(cut.site) as fast, Workers(cut.site) as workers:
        work = {"run_id": str(cut.number), "slice_id": 3, "tf_filename": chosen["tf_filename"]}
        result = workers.result(work)
        # What our own door would copy comes by NATS, since it is a foreign broker; then the agent looks the row up.
        copy = {**result, "sender": workers.name, "namespace": cut.site.namespace}
        asyncio.run(bridged.say(f"messages.in.{token(RESULTS)}", json.dumps(copy).encode()))
        eventually(lambda: api.get(f"/api/tf-slices/{chosen['id']}/").json()["status"] == "completed")
        workers.send(RESULTS, result)
        eventually(lambda: fast.results == 1)
    after = {row["id"]: row for row in cut.slices(api)}
    row = after.pop(chosen["id"])
    assert (row["status"], row["metadata"]["worker_hostname"]) == ("completed", result["content"]["hostname"])
    assert row["metadata"]["panda_id"] == 3
    assert after == {row["id"]: row for row in before if row["id"] != chosen["id"]}
    state = api.get(f"/api/run-states/{cut.number}/").json()
    assert [state[f"slices_{each}"] for each in ("created", "queued", "completed")] == [10, 9, 1]


def test_scenario_11_slices_by_flat_names_and_by_file_are_of_the_same_tf_file(cut: Cut, api: Client) -> None:
    flat = cut.slices(api)
    (file,) = api.get("/api/fastmon-files/", params={"tf_filename": flat[0]["fastmon_file"]}).json()
    new = {"tf_first": 0, "tf_last": 9, "tf_count": 10, "tf_filename": f"swf.{cut.number}.000001_tf_003.tf"}
    assert api.post("/api/fastmon-files/", {"stf_file": file["stf_file"], **new}).status_code == 201
    told = {"msg_type": "tf_file_registered", "run_id": str(cut.number), "stf_filename": file["stf_file"], **new}
    with Fast(cut.site, by_file=True) as newest:
        newest.handle(told)
    by_file = cut.slices(api)[10:]
    assert [row["tf_filename"] for row in by_file] == [
        f"swf.{cut.number}.000001_tf_003_slice_{slice_id:03d}.tf" for slice_id in range(5)
    ]
    for rows, name in ((flat[:5], file["tf_filename"]), (by_file, new["tf_filename"])):
        assert {(row["fastmon_file"], row["stf_filename"]) for row in rows} == {(name, file["stf_file"])}
        assert api.get("/api/tf-slices/", params={"fastmon_file": name}).json() == rows
    # The other way to say it is the same slice.
    names = ("slice_id", "tf_first", "tf_last", "tf_count", "tf_filename", "stf_filename", "run_number", "metadata")
    again = api.post("/api/tf-slices/", {name: by_file[0][name] for name in names})
    assert (again.status_code, again.json()) == (200, by_file[0])


def test_scenario_10_a_slow_consumer_gets_a_burst_of_300_slices_in_order(bridged: Up, broker: Broker) -> None:
    where = site(bridged, broker)
    awake = threading.Event()

    def slow(received: Received) -> bool:
        # In the thread that reads: nothing more is taken from the socket meanwhile.
        awake.wait(30)
        return True

    consumer = BusConnection(where.broker, uuid4().hex, (SLICES,), namespace=where.namespace, wanted=slow)
    with Runner(where, Plan()) as runner, Fast(where, slices=300) as fast:
        consumer.open()
        try:
            number = runner.register()
            file = {"tf_first": 0, "tf_last": 299, "tf_count": 300, "tf_filename": f"{number}_tf_001.tf"}
            told = {"msg_type": "tf_file_registered", "run_id": str(number), "stf_filename": f"{number}.stf", **file}
            fast.handle(told)
            assert fast.slices == 300
        finally:
            awake.set()
        got = [consumer.received.get(timeout=20).content["content"]["slice_id"] for _ in range(300)]
        consumer.close()
    assert got == list(range(300))
