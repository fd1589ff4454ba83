"""Who may write some namespaces only sends heartbeats of agents in them, before and after."""

import asyncio
from typing import Any

import pytest

from sluice_core.auth import Identity
from sluice_core.rest import ApiError
from sluice_registry.service.heartbeats import Beat

from .conftest import Registry

N1 = Identity("daq", frozenset({"agents:write"}), "t1", frozenset({"n1"}))
ANYWHERE = Identity("ada", frozenset({"agents:write"}), "t2")


async def refused(registry: Registry, beat: Beat) -> bool:
    with pytest.raises(ApiError) as raised:
        await registry.heartbeats.beat(beat)
    return raised.value.status == 403


async def test_agents_of_his_namespace_are_made_and_refreshed(registry: Registry) -> None:
    for created in (True, False):
        outcome = await registry.heartbeats.beat(Beat("daq-1", {"namespace": "n1"}, sender=N1))
        assert (outcome.row["namespace"], outcome.created) == ("n1", created)
    # What is absent is kept.
    assert (await registry.heartbeats.beat(Beat("daq-1", {"pid": 5}, sender=N1))).row["pid"] == 5


@pytest.mark.parametrize("said", [{"namespace": "n2"}, {"namespace": None}, {"namespace": ""}, {}])
async def test_no_agent_is_made_elsewhere(registry: Registry, said: dict[str, Any]) -> None:
    assert await refused(registry, Beat("daq-1", said, sender=N1))
    assert registry.agents() == []
    assert registry.events() == []
    assert await registry.announced() == []


@pytest.mark.parametrize("said", [{}, {"namespace": "n1"}, {"namespace": "n2"}])
@pytest.mark.parametrize("namespace", ["n2", None])
async def test_an_agent_of_elsewhere_is_not_even_heard_of(
    registry: Registry, namespace: str | None, said: dict[str, Any]
) -> None:
    await registry.beat("daq-1", namespace=namespace)
    before = registry.agent("daq-1")
    assert await refused(registry, Beat("daq-1", said, sender=N1))
    assert registry.agent("daq-1") == before


async def test_an_agent_is_not_moved_out(registry: Registry) -> None:
    await registry.beat("daq-1", namespace="n1")
    before = registry.agent("daq-1")
    assert await refused(registry, Beat("daq-1", {"namespace": "n2"}, sender=N1))
    assert registry.agent("daq-1") == before


async def test_who_has_no_namespaces_writes_all(registry: Registry) -> None:
    for said in ({}, {"namespace": "n2"}, {"namespace": "n1"}):
        await registry.heartbeats.beat(Beat("daq-1", said, sender=ANYWHERE))
    assert registry.agent("daq-1")["namespace"] == "n1"


async def test_one_refusal_holds_up_nobody_else_in_its_transaction(registry: Registry) -> None:
    await registry.beat("there", namespace="n2")
    beats = [
        Beat("new", {"namespace": "n1"}, sender=N1),
        Beat("there", {"pid": 1}, sender=N1),
        Beat("other", {"namespace": "n3"}),
        Beat("new", {"namespace": "n2"}, sender=N1),
        Beat("there", {"namespace": "n1", "pid": 2}),
        Beat("there", {"pid": 3}, sender=N1),
        Beat("new", {"pid": 4}, sender=N1),
    ]
    outcomes = await registry.heartbeats.record(beats)
    assert [(each.row["instance_name"], each.created) for each in outcomes] == [
        ("new", True),
        ("other", True),
        ("there", False),
        ("there", False),
        ("new", False),
    ]
    assert {row["instance_name"]: (row["namespace"], row["pid"]) for row in registry.agents()} == {
        "new": ("n1", 4),
        "other": ("n3", None),
        "there": ("n1", 3),
    }


async def test_an_agent_that_another_replica_makes_meanwhile_elsewhere_is_left_alone(
    registry: Registry, other: Registry
) -> None:
    with registry.database.engine.connect() as connection:
        # Not committed yet when the heartbeat looks for it, and there when it is to be stored.
        columns = "instance_name, agent_type, description, status, workflow_enabled, current_stf_count"
        connection.exec_driver_sql(
            f"INSERT INTO system_agent ({columns}, total_stf_processed, operational_state, namespace) "
            "VALUES ('daq-1', 'x', '', 'OK', true, 0, 0, 'READY', 'n2')"
        )
        beat = asyncio.create_task(other.heartbeats.beat(Beat("daq-1", {"namespace": "n1", "pid": 5}, sender=N1)))
        await registry.blocked()
        connection.commit()
        with pytest.raises(ApiError):
            await beat
    assert registry.agent("daq-1")["pid"] is None
