"""Workers outside of the testbed: they answer slices (swf-clients.md 8)."""

import socket
from typing import Any

from sluice_simulator.bus import RESULTS, SLICES
from sluice_simulator.roles.agent import Agent, Message, now

__all__ = ["Workers"]


class Workers(Agent):
    """All workers of a run as one, which answers each slice at once."""

    kind = "panda_worker"
    destinations = (SLICES,)
    heeds = frozenset({"slice"})
    answered = 0

    def handle(self, message: Message) -> None:
        """Answer a slice."""
        self.send(RESULTS, self.result(message["content"]))
        self.answered += 1

    def result(self, work: Message) -> dict[str, Any]:
        """Return the result of a slice."""
        done = {"slice_id": work["slice_id"], "tf_filename": work["tf_filename"], "processed": True, "state": "done"}
        return {
            "msg_type": "slice_result",
            "run_id": work["run_id"],
            "content": {
                "state": "done",
                "processed_at": now(),
                "hostname": socket.gethostname(),
                "panda_task_id": int(work["run_id"]),
                "panda_id": work["slice_id"],
                "harvester_id": "simulated",
                "processing_start_at": now(),
                "result": {"result": done},
            },
        }
