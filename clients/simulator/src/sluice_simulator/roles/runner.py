"""The workflow runner: simulates the data acquisition and drives the run."""

import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from sluice_simulator.bus import CONTROL, TOPIC
from sluice_simulator.plan import DONE, Plan, schedule
from sluice_simulator.roles.agent import Agent, Message, Site, now

__all__ = ["Runner"]

WORKFLOW = "stf_datataking"
SOURCE = "# Played by sluice simulate; see its plan.\n"


class Runner(Agent):
    """Plays one run, unless it is stopped.

    Parameters
    ----------
    controlled
        Whether it takes ``stop_workflow`` from the queue, which all runners at a broker share.
    """

    kind = "DAQ_Simulator"
    heeds = frozenset({"stop_workflow"})

    def __init__(self, site: Site, plan: Plan, *, controlled: bool = False) -> None:
        super().__init__(site)
        self.destinations = (CONTROL,) if controlled else ()
        self.plan = plan
        self.execution_id = ""
        self.number = 0
        self.generated = 0
        self.ticks: list[tuple[str, float]] = []
        """What was sent, and at which simulated second."""
        self._stopped = threading.Event()

    def handle(self, message: Message) -> None:
        """Stop the run that is meant."""
        if message.get("execution_id") in (None, self.execution_id):
            self.stop()

    def stop(self) -> None:
        """End the run at its next step."""
        self._stopped.set()

    @property
    def stopped(self) -> bool:
        """Whether it was told to end the run."""
        return self._stopped.is_set()

    def register(self) -> int:
        """Register the execution and its run; return its number."""
        site, plan = self.site, self.plan
        parameters = plan.configuration(site.namespace)
        definition = self._definition(parameters)
        sequence = self.api.post("/state/next-workflow-execution-id/", {"workflow_name": WORKFLOW})["sequence"]
        self.execution_id = f"{WORKFLOW}-{site.user}-{sequence:04d}"
        self.api.post("/namespaces/ensure/", {"name": site.namespace, "owner": site.user})
        execution = {
            "execution_id": self.execution_id,
            "workflow_definition": definition,
            "namespace": site.namespace,
            "status": "running",
            "executed_by": site.user,
            "start_time": now(),
            "parameter_values": parameters,
        }
        self.api.post("/workflow-executions/", execution)
        self.number = self.api.post("/state/next-run-number/")["run_number"]
        self.api.post("/run-states/", self._run_state(parameters["fast_processing"]))
        return self.number

    def play(self) -> bool:
        """Send all messages of the run, each at its time; return False when it was stopped before its end."""
        began = time.monotonic()
        for step in schedule(self.plan):
            if self._stopped.wait(max(0.0, began + step.tick / self.plan.speed - time.monotonic())):
                self._end("completed", now())
                # As the testbed's runner has it; the platform keeps the end that it knows.
                self._end("terminated", None)
                return False
            self.ticks.append((step.what, step.tick))
            if step.what == DONE:
                break
            self._announce(step.what, step.tick, step.more)
        self._end("completed", now())
        return True

    def _definition(self, parameters: Mapping[str, Any]) -> int:
        name, version = "fast_processing", parameters["workflow"]["version"]
        known = self.api.get("/workflow-definitions/", workflow_name=name, version=version)
        if not known:
            body = {
                "workflow_name": name,
                "version": version,
                "workflow_type": "simulation",
                "definition": SOURCE,
                "parameter_values": parameters,
                "created_by": self.site.user,
                "created_at": now(),
            }
            known = [self.api.post("/workflow-definitions/", body)]
        return int(known[0]["id"])

    def _run_state(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        counters = ("active_worker_count", "stf_samples_received", *(f"slices_{each}" for each in _SLICES))
        sampling = {name: parameters[name] for name in ("stf_sampling_rate", "slices_per_sample")}
        return {
            "run_number": str(self.number),
            "phase": "initializing",
            "state": "imminent",
            "substate": "preparing",
            "target_worker_count": parameters["target_worker_count"],
            **dict.fromkeys(counters, 0),
            "state_changed_at": now(),
            "metadata": {"execution_id": self.execution_id, **sampling},
        }

    def _announce(self, kind: str, tick: float, more: Mapping[str, Any]) -> None:
        message = {
            "msg_type": kind,
            "execution_id": self.execution_id,
            "run_id": str(self.number),
            "timestamp": datetime.now(UTC).isoformat(),
            "simulation_tick": tick,
            **more,
        }
        if kind == "stf_gen":
            message["filename"] = f"swf.{self.number}.{more['sequence']:06d}.stf"
            self.generated += 1
        self.send(TOPIC, message)

    def _end(self, status: str, end: str | None) -> None:
        self.api.patch(f"/workflow-executions/{self.execution_id}/", {"status": status, "end_time": end})


_SLICES = ("created", "queued", "processing", "completed", "failed")
