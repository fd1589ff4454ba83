"""What a heartbeat changes, and what it costs (contract 3.1, decision 9)."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import time_machine
from sqlalchemy.exc import DBAPIError

from sluice_core.database import DatabaseAway
from sluice_registry.service.heartbeats import Beat
from sluice_registry.store.agents import AgentStore

from .conftest import STALE_AFTER, Registry

ALL_SAID = {
    "agent_type": "DAQ_Simulator",
    "description": "first",
    "status": "WARNING",
    "agent_url": "http://daq/",
    "workflow_enabled": False,
    "current_stf_count": 3,
    "total_stf_processed": 7,
    "pid": 12,
    "hostname": "h",
    "operational_state": "PROCESSING",
    "namespace": "n1",
    "metadata": {"supervisord_healthy": True},
}
JUST_TOO_LONG = STALE_AFTER + timedelta(seconds=1)


# Sharing commits


async def test_beats_that_come_while_a_transaction_runs_share_the_next_one(registry: Registry) -> None:
    await registry.beat("slow")
    with registry.locked("slow"):
        slow = asyncio.create_task(registry.beat("slow"))
        await registry.blocked()
        others = [asyncio.create_task(registry.beat(f"agent-{number}")) for number in range(100)]
        await asyncio.sleep(0)
        assert not any(task.done() for task in (slow, *others))
    await asyncio.gather(slow, *others)
    assert len({agent["xmin"] for agent in registry.agents() if agent["instance_name"] != "slow"}) == 1


async def test_a_beat_is_answered_after_its_commit(registry: Registry, other: Registry) -> None:
    await registry.beat("daq-1", pid=1)
    with other.locked("daq-1"):
        answer = asyncio.create_task(registry.beat("daq-1", pid=2))
        await other.blocked()
        assert not answer.done()
        assert other.agent("daq-1")["pid"] == 1
    assert (await answer)["pid"] == 2
    assert other.agent("daq-1")["pid"] == 2


async def test_beats_of_one_agent_in_one_transaction_count_in_the_order_in_which_they_came(registry: Registry) -> None:
    said: list[dict[str, Any]] = [
        {"pid": 1, "hostname": "h1", "status": "EXITED", "operational_state": "EXITED"},
        {"pid": 2},
        {"pid": 3, "namespace": "n1"},
    ]
    outcomes = await registry.heartbeats.record([Beat("daq-1", each) for each in said])
    assert [outcome.created for outcome in outcomes] == [True, False, False]
    agent = registry.agent("daq-1")
    assert (agent["pid"], agent["hostname"], agent["namespace"]) == (3, "h1", "n1")
    assert (agent["status"], agent["operational_state"]) == ("OK", "READY")
    assert all(outcome.row["pid"] == 3 for outcome in outcomes)


async def test_one_beat_that_cannot_be_stored_fails_alone(registry: Registry) -> None:
    beats = {f"agent-{number}": "h" for number in range(10)} | {"unstorable": "h" * 101}
    answers = await asyncio.gather(
        *(registry.beat(name, hostname=hostname) for name, hostname in beats.items()), return_exceptions=True
    )
    assert [isinstance(answer, DBAPIError) for answer in answers] == [name == "unstorable" for name in beats]
    assert {agent["instance_name"] for agent in registry.agents()} == set(beats) - {"unstorable"}
    assert len(registry.events()) == 10


async def test_more_beats_than_may_wait_are_told_to_come_back(registry: Registry) -> None:
    answers = await asyncio.gather(*(registry.beat(f"a{n}") for n in range(1003)), return_exceptions=True)
    assert [type(answer) for answer in answers if isinstance(answer, BaseException)] == [DatabaseAway] * 3
    assert len(registry.agents()) == 1000


# What changes


async def test_what_a_beat_does_not_say_is_kept(registry: Registry) -> None:
    before = await registry.beat("daq-1", **ALL_SAID)
    after = await registry.beat("daq-1")
    clocks = {"last_heartbeat", "updated_at"}
    assert {key: value for key, value in before.items() if key not in clocks} == {
        key: value for key, value in after.items() if key not in clocks
    }
    assert {key: after[key] for key in ALL_SAID} == ALL_SAID
    assert after["last_heartbeat"] > before["last_heartbeat"]


@pytest.mark.parametrize(("one", "other"), [(1, True), (False, 0), ([0, 1], [0, True])], ids=str)
async def test_numbers_and_truth_are_not_the_same_metadata(registry: Registry, one: Any, other: Any) -> None:
    await registry.beat("daq-1", metadata={"healthy": one})
    assert str((await registry.beat("daq-1", metadata={"healthy": other}))["metadata"]["healthy"]) == str(other)
    assert len(registry.events()) == 2
    await registry.beat("daq-1", metadata={"healthy": other})
    assert len(registry.events()) == 2


async def test_a_null_is_said_and_not_kept(registry: Registry) -> None:
    await registry.beat("daq-1", **ALL_SAID)
    after = await registry.beat("daq-1", pid=None, hostname=None, namespace=None, agent_url=None, metadata=None)
    assert [after[key] for key in ("pid", "hostname", "namespace", "agent_url", "metadata")] == [None] * 5


@pytest.mark.parametrize(
    ("said", "status", "state"),
    [
        ({}, "OK", "READY"),
        ({"status": "WARNING"}, "WARNING", "READY"),
        ({"operational_state": "PROCESSING"}, "OK", "PROCESSING"),
        ({"status": "EXITED"}, "EXITED", "EXITED"),
        ({"status": "EXITED", "operational_state": "EXITED"}, "EXITED", "EXITED"),
        ({"operational_state": "EXITED"}, "OK", "EXITED"),
    ],
    ids=str,
)
async def test_a_live_beat_clears_exited_in_what_it_does_not_speak_of(
    registry: Registry, said: dict[str, str], status: str, state: str
) -> None:
    await registry.beat("daq-1", status="EXITED", operational_state="EXITED")
    after = await registry.beat("daq-1", **said)
    assert (after["status"], after["operational_state"]) == (status, state)


async def test_an_agent_that_two_replicas_meet_at_once_is_one_row(registry: Registry, other: Registry) -> None:
    names = [f"agent-{number}" for number in range(50)]
    answers = await asyncio.gather(
        *(replica.heartbeats.beat(Beat(name, {"pid": 1})) for name in names for replica in (registry, other))
    )
    assert len({answer.row["id"] for answer in answers}) == len(names)
    assert sum(answer.created for answer in answers) == len(names)
    assert len(registry.events()) == len(names)


async def test_a_beat_that_loses_the_race_to_create_an_agent_updates_it(registry: Registry, other: Registry) -> None:
    row = {**ALL_SAID, "instance_name": "daq-1"}
    with other.database.engine.connect() as connection:
        AgentStore(connection).add([row])
        answer = asyncio.create_task(registry.heartbeats.beat(Beat("daq-1", {"pid": 99})))
        await other.blocked()
        connection.commit()
    outcome = await answer
    assert not outcome.created
    assert (outcome.row["pid"], outcome.row["hostname"], outcome.row["namespace"]) == (99, "h", "n1")


async def test_replicas_that_get_the_same_agents_in_different_orders_do_not_block_each_other(
    registry: Registry, other: Registry
) -> None:
    names = [f"agent-{number}" for number in range(20)]
    for turn in range(10):
        forwards = [Beat(name, {"pid": turn}) for name in names]
        backwards = [Beat(name, {"pid": turn + 100}) for name in reversed(names)]
        await asyncio.gather(registry.heartbeats.record(forwards), other.heartbeats.record(backwards))
    assert len(registry.agents()) == len(names)


# Silence


@pytest.mark.parametrize(("silence", "state"), [(JUST_TOO_LONG, "EXITED"), (timedelta(seconds=178), "READY")], ids=str)
async def test_an_agent_is_exited_after_three_minutes_of_silence_and_not_before(
    registry: Registry, silence: timedelta, state: str
) -> None:
    await registry.beat("daq-1", operational_state="READY")
    registry.silent_for("daq-1", silence)
    registry.heartbeats.sweep()
    agent = registry.agent("daq-1")
    assert (agent["status"], agent["operational_state"]) == ("EXITED" if state == "EXITED" else "OK", state)


async def test_a_beat_is_answered_when_the_silent_ones_are_marked(registry: Registry) -> None:
    await registry.beat("silent", operational_state="READY")
    registry.silent_for("silent", JUST_TOO_LONG)
    await registry.beat("alive")
    assert registry.agent("silent")["status"] == "EXITED"


async def test_beats_look_for_silent_agents_once_in_a_while_and_when_somebody_turned_a_clock(
    registry: Registry,
) -> None:
    heartbeats = registry.every(timedelta(hours=1))
    await heartbeats.record([Beat("alive", {}), Beat("silent", {})])
    registry.silent_for("silent", JUST_TOO_LONG)
    for said in ({}, {"pid": 12}):
        await heartbeats.record([Beat("alive", said)])
        assert registry.agent("silent")["status"] == "OK"
    heartbeats.look_soon()
    await heartbeats.record([Beat("alive", {"pid": 12})])
    assert registry.agent("silent")["status"] == "EXITED"


def test_no_index_holds_what_each_beat_writes(registry: Registry) -> None:
    indexes = registry.indexes()
    assert any("instance_name" in each for each in indexes)
    assert not any(clock in each for each in indexes for clock in ("last_heartbeat", "updated_at"))


async def test_marking_an_agent_touches_nothing_else(registry: Registry) -> None:
    await registry.beat("daq-1", **ALL_SAID)
    registry.silent_for("daq-1", JUST_TOO_LONG)
    before = registry.agent("daq-1")
    registry.heartbeats.sweep()
    after = registry.agent("daq-1")
    assert {key for key in after if after[key] != before[key]} == {"status", "operational_state", "xmin"}


async def test_an_agent_that_never_sent_a_beat_is_not_marked(registry: Registry) -> None:
    await registry.beat("created")
    registry.silent_for("created", JUST_TOO_LONG)
    with registry.database.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE system_agent SET last_heartbeat = NULL")
    registry.heartbeats.sweep()
    assert registry.agent("created")["status"] == "OK"


async def test_silence_is_measured_by_the_clock_of_the_database(registry: Registry) -> None:
    await registry.beat("alive")
    await registry.beat("silent")
    registry.silent_for("silent", JUST_TOO_LONG)
    with time_machine.travel(datetime.now(UTC) + timedelta(days=1)):
        await registry.beat("unaware")
        registry.heartbeats.sweep()
    with time_machine.travel(datetime.now(UTC) - timedelta(days=1)):
        registry.heartbeats.sweep()
    statuses = {agent["instance_name"]: agent["status"] for agent in registry.agents()}
    assert statuses == {"alive": "OK", "silent": "EXITED", "unaware": "OK"}


async def test_a_sweep_says_each_exit_once(registry: Registry, other: Registry) -> None:
    for name in ("a", "b", "c"):
        await registry.beat(name)
    for name in ("a", "b", "c"):
        registry.silent_for(name, JUST_TOO_LONG)
    said = len(registry.events())
    await asyncio.gather(*(asyncio.to_thread(replica.heartbeats.sweep) for replica in (registry, other) * 3))
    exits = registry.events()[said:]
    assert sorted(event["key"] for event in exits) == ["a", "b", "c"]


async def test_a_sweep_does_not_wait_for_an_agent_that_is_being_heard_of(registry: Registry, other: Registry) -> None:
    for name in ("busy", "silent"):
        await registry.beat(name)
    for name in ("busy", "silent"):
        registry.silent_for(name, JUST_TOO_LONG)
    with other.locked("busy"):
        await asyncio.wait_for(asyncio.to_thread(registry.heartbeats.sweep), 5)
        assert registry.agent("silent")["status"] == "EXITED"
    assert registry.agent("busy")["status"] == "OK"


# Events


async def test_a_change_and_its_event_are_one_transaction(registry: Registry) -> None:
    await registry.beat("daq-1", namespace="n1")
    (event,) = registry.events()
    assert event["xmin"] == registry.agent("daq-1")["xmin"]
    assert event["subject"] == "agents.state.n1.daq-1"


@pytest.mark.parametrize("said", [{}, {"pid": 12}, {"current_stf_count": 4, "total_stf_processed": 8}], ids=str)
async def test_a_beat_that_changes_no_state_is_no_event(registry: Registry, said: dict[str, int]) -> None:
    await registry.beat("daq-1", **ALL_SAID)
    await registry.beat("daq-1", **said)
    assert len(registry.events()) == 1


async def test_the_latest_beat_of_each_agent_is_published_within_a_moment_with_the_agent_after_it(
    registry: Registry,
) -> None:
    beats = [Beat(name, {"pid": pid, "namespace": "n1"}) for pid in (1, 2, 3) for name in ("daq 1", "daq-2")]
    await registry.heartbeats.record(beats)
    said = [(subject, row["pid"]) for subject, row in await registry.announced()]
    assert said == [("agents.heartbeat.n1.daq=201", 3), ("agents.heartbeat.n1.daq-2", 3)]
