"""The data agent: registers runs and STF files."""

from sluice_simulator.bus import TOPIC
from sluice_simulator.roles.agent import Agent, Message, Site, now

__all__ = ["Data"]

GENERATION = 0.1
"""Simulated seconds between the registration of a file and its end."""
SIZE = 2_000_000_000


class Data(Agent):
    """Registers the run at its announcement, and each STF file that is generated.

    Parameters
    ----------
    speed
        Simulated seconds in a real one.
    """

    kind = "DATA"
    heeds = frozenset({"run_imminent", "start_run", "stf_gen", "end_run"})

    def __init__(self, site: Site, run: int | None = None, *, speed: float = 1.0) -> None:
        super().__init__(site, run)
        self.processed = 0
        self.ended = 0
        self._speed = speed
        self._runs: dict[int, int] = {}

    def handle(self, message: Message) -> None:
        """Follow the runner."""
        number = int(message["run_id"])
        match message["msg_type"]:
            case "run_imminent":
                body = {"run_number": number, "start_time": message["timestamp"], "run_conditions": {}}
                self._runs[number] = self.api.post("/runs/", body)["run_id"]
            case "start_run":
                self.beat(workflow_enabled=True, current_stf_count=0, total_stf_processed=self.processed)
            case "stf_gen":
                self._register(number, message)
            case "end_run":
                self.api.patch(f"/runs/{self._runs[number]}/", {"end_time": message["timestamp"]})
                self.ended += 1

    def _register(self, number: int, message: Message) -> None:
        name, began = message["filename"], now()
        metadata = {
            "created_by": self.name,
            "substate": message["substate"],
            "start": began,
            "end": began,
            "sequence": message["sequence"],
        }
        body = {
            "run": self._runs[number],
            "stf_filename": name,
            "file_size_bytes": SIZE,
            "machine_state": "run",
            "status": "registered",
            "metadata": metadata,
        }
        file_id = self.api.post("/stf-files/", body)["file_id"]
        self.stopping.wait(GENERATION / self._speed)
        ready = {
            "msg_type": "stf_ready",
            "filename": name,
            "run_id": message["run_id"],
            "file_url": f"file:///data/{name}",
            "checksum": f"ad:{message['sequence']:08x}",
            "size_bytes": SIZE,
            "start": began,
            "end": now(),
            "state": message["state"],
            "substate": message["substate"],
            "sequence": message["sequence"],
            "simulation_tick": message["simulation_tick"],
            "processed_by": self.name,
        }
        self.send(TOPIC, ready)
        self.api.patch(f"/stf-files/{file_id}/", {"status": "processed", "metadata": metadata})
        self.processed += 1
