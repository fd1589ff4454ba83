"""The fast monitoring agent: takes samples of STF files."""

import random
from typing import Any

from sluice_simulator.bus import TOPIC
from sluice_simulator.roles.agent import Agent, Message, Site, now

__all__ = ["Fastmon"]

FRAMES = 1000
"""Time frames of an STF file that does not say how many it has."""
SAMPLE, SPREAD = 0.15, 0.1
"""How much of its part of the STF file a sample is, and by how much that varies."""


class Fastmon(Agent):
    """Takes some samples of each STF file, and beats at every message that it sees.

    Parameters
    ----------
    tfs
        Samples of each STF file.
    chance
        Says how large they are and where they begin.
    """

    kind = "fastmon"
    heeds = frozenset(
        {
            "run_imminent",
            "start_run",
            "pause_run",
            "resume_run",
            "end_run",
            "stf_gen",
            "stf_ready",
            "tf_file_registered",
        }
    )

    def __init__(self, site: Site, run: int | None = None, *, tfs: int = 7, chance: random.Random) -> None:
        super().__init__(site, run)
        self.files = 0
        self._tfs = tfs
        self._chance = chance

    def handle(self, message: Message) -> None:
        """Beat, and take samples of a file that is ready."""
        self.beat()
        if message["msg_type"] != "stf_ready":
            return
        samples = [self._sample(message, number) for number in range(1, self._tfs + 1)]
        if self.site.batches:
            self.create_many("/fastmon-files/", samples)
            rows = samples  # less their ids, which nobody needs
        else:
            rows = [self.api.post("/fastmon-files/", sample) for sample in samples]
        for row in rows:
            self.send(TOPIC, self._registered(message, row))
            self.files += 1

    def _sample(self, message: Message, number: int) -> dict[str, Any]:
        frames = message.get("tf_count") or FRAMES
        first = frames * (number - 1) // self._tfs
        part = frames * number // self._tfs - first
        count = min(part, max(1, round(part * self._chance.gauss(SAMPLE, SAMPLE * SPREAD))))
        first += self._chance.randint(0, part - count)
        return {
            "stf_file": message["filename"],
            "tf_filename": f"{message['filename'].removesuffix('.stf')}_tf_{number:03d}.tf",
            "tf_first": first,
            "tf_last": first + count - 1,
            "tf_count": count,
            "file_size_bytes": int(message["size_bytes"] * count / frames),
            "status": "registered",
            "metadata": {
                "simulation": True,
                "created_from": message["filename"],
                "tf_size_fraction": round(count / part, 3),
                "agent_name": self.name,
                "state": message["state"],
                "substate": message["substate"],
                "start": message["start"],
                "end": message["end"],
            },
        }

    def _registered(self, message: Message, row: Message) -> dict[str, Any]:
        names = ("tf_filename", "tf_first", "tf_last", "tf_count", "file_size_bytes", "status")
        return {
            "msg_type": "tf_file_registered",
            "run_id": message["run_id"],
            "execution_id": message.get("execution_id"),
            "processed_by": self.name,
            "tf_file_id": row.get("tf_file_id"),
            **{name: row[name] for name in names},
            "stf_filename": message["filename"],
            "timestamp": now(),
        }
