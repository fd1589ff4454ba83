"""A simulated run while the platform is away: agents try again, and nothing is lost or there twice."""

import queue
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from sluice_core.testing import eventually
from sluice_core.testing.activemq import PASSWORD, USER, Broker
from sluice_simulator.bus import Address
from sluice_simulator.plan import Plan
from sluice_simulator.roles.agent import Site
from sluice_simulator.simulation import Simulation
from tests.integration.platforms import Up, samples

pytestmark = pytest.mark.timeout(400)

AWAY = 30.0


@pytest.fixture
def bridged(tmp_path: Path, broker: Broker) -> Iterator[Up]:
    host, port = broker.address
    login = {"ACTIVEMQ_USER": USER, "ACTIVEMQ_PASSWORD": PASSWORD, "SLUICE_STREAM_ACTIVEMQ_CLIENT_ID": uuid4().hex}
    with Up(tmp_path / "data", ACTIVEMQ_HOST=host, ACTIVEMQ_PORT=str(port), **login) as up:
        eventually(lambda: list(samples(up.admin, "sluice_bridge_connected").values()) == [1.0], 30)
        up.keeps_ports = True
        yield up


def test_scenario_5_a_server_that_is_killed_for_30_s_during_a_run_loses_nothing(bridged: Up, broker: Broker) -> None:
    site = Site(bridged.http, bridged.token, Address(*broker.address, USER, PASSWORD), uuid4().hex, "ada")
    simulation = Simulation(site, Plan(stfs=10, periods=2, speed=5))
    found: queue.Queue[Any] = queue.Queue()
    thread = threading.Thread(target=lambda: found.put(simulation.run()), name="simulation")
    thread.start()
    eventually(lambda: simulation.fast.files >= 3, 60)
    bridged.kill()
    time.sleep(AWAY)  # what is tested
    # All STF files were generated meanwhile, and the broker kept what the platform has to hear.
    assert simulation.data.processed < 20
    bridged.start()
    summary = found.get(timeout=240)
    thread.join()
    assert summary.ok, summary
    assert sum(agent.api.retries for agent in simulation.agents) > 0
    client = bridged.client()
    recorded = client.get("/api/workflow-messages/", params={"namespace": site.namespace}).json()
    kinds = [row["message_type"] for row in recorded]
    client.close()
    assert (kinds.count("stf_gen"), kinds.count("stf_ready"), kinds.count("tf_file_registered")) == (20, 20, 140)
