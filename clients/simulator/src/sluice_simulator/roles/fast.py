"""The fast processing agent: cuts samples into slices for workers, and notes what became of them."""

from typing import Any
from uuid import uuid4

from sluice_simulator.bus import RESULTS, SLICES, TOPIC, WORKERS
from sluice_simulator.roles.agent import Agent, Message, Site, now

__all__ = ["Fast"]

FRAMES = 2
"""Time frames of a slice."""
LIFE = "43200000"
"""Milliseconds after which the broker may forget a slice."""
COUNTED = ("stf_samples_received", "slices_created", "slices_queued")


class Fast(Agent):
    """Follows the runner, makes slices of each TF file, and finishes those whose result comes.

    Parameters
    ----------
    slices
        Of each TF file; None: one for two time frames.
    by_file
        Whether slices name the TF file that they are of, as the newest server has it, instead of the flat names of old.
    """

    kind = "Fast_Processing"
    destinations = (TOPIC, RESULTS)
    heeds = frozenset(
        {"run_imminent", "start_run", "pause_run", "resume_run", "end_run", "tf_file_registered", "slice_result"}
    )

    def __init__(self, site: Site, run: int | None = None, *, slices: int | None = None, by_file: bool = False) -> None:
        super().__init__(site, run)
        self.files = 0
        self.slices = 0
        self.results = 0
        self.ended = 0
        self._per_file = slices
        self._by_file = by_file
        self._execution: str | None = None

    def handle(self, message: Message) -> None:
        """Follow the runner, the monitoring and the workers."""
        kind = message["msg_type"]
        match kind:
            case "run_imminent":
                self._prepare(message)
            case "start_run":
                self._state_is(message, phase="physics", state="running", substate="physics")
            case "end_run":
                self._state_is(message, phase="completed", state="ended")
                self._to_workers(message, "end_run")
            case "tf_file_registered":
                self._cut(message)
                kind = "tf_file_processed"
            case "slice_result":
                self._finish(message)
        self._note(message, kind)
        # Only now all of it is done.
        self.files += kind == "tf_file_processed"
        self.results += kind == "slice_result"
        self.ended += kind == "end_run"

    def _prepare(self, message: Message) -> None:
        self._execution = message["execution_id"]
        found = self.api.get(f"/workflow-executions/{self._execution}/")["parameter_values"]["fast_processing"]
        names = ("target_worker_count", "slice_processing_time", "worker_rampup_time", "worker_rampdown_time")
        self._to_workers(message, "run_imminent_worker", core_count=1, **{name: found.get(name) for name in names})

    def _state_is(self, message: Message, **words: str) -> None:
        self.api.patch(f"/run-states/{message['run_id']}/", {**words, "state_changed_at": now()})

    def _to_workers(self, message: Message, kind: str, **more: Any) -> None:
        content = {**message, "execution_id": self._execution, **more}
        self._publish(WORKERS, kind, message, content)

    def _publish(self, destination: str, kind: str, message: Message, content: Message, **headers: str) -> None:
        run = str(message["run_id"])
        envelope = {"msg_type": kind, "run_id": message["run_id"], "created_at": now(), "content": content}
        common = {"persistent": "false", "vo": "eic", "msg_type": kind, "namespace": self.site.namespace, "run_id": run}
        self.send(destination, envelope, **{**common, **headers})

    def _cut(self, message: Message) -> None:
        count = self._per_file or -(-message["tf_count"] // FRAMES)
        made = [self._slice(message, number, count) for number in range(count)]
        if self.site.batches:
            self.create_many("/tf-slices/", made)
        else:
            for each in made:
                self.api.post("/tf-slices/", each)
        for each in made:
            self._publish(SLICES, "slice", message, self._work(message, each), persistent="true", ttl=LIFE)
            self.slices += 1
        self._count(message, count)

    def _slice(self, message: Message, number: int, count: int) -> dict[str, Any]:
        """Return slice ``number`` of ``count`` equal ones."""
        first = message["tf_first"] + message["tf_count"] * number // count
        last = max(first, message["tf_first"] + message["tf_count"] * (number + 1) // count - 1)
        stem = message["tf_filename"].removesuffix(".tf")
        named = (
            {"fastmon_file": message["tf_filename"]}
            if self._by_file
            else {"tf_filename": f"{stem}_slice_{number:03d}.tf", "stf_filename": message["stf_filename"]}
        )
        return {
            "slice_id": number,
            "tf_first": first,
            "tf_last": last,
            "tf_count": last - first + 1,
            **named,
            "run_number": str(message["run_id"]),
            "status": "queued",
            "retries": 0,
            "metadata": {"execution_id": self._execution, "created_by": self.name},
        }

    def _work(self, message: Message, made: Message) -> dict[str, Any]:
        stem = message["tf_filename"].removesuffix(".tf")
        return {
            "run_id": message["run_id"],
            "execution_id": self._execution,
            "req_id": str(uuid4()),
            "filename": message["stf_filename"],
            "tf_filename": f"{stem}_slice_{made['slice_id']:03d}.tf",
            "slice_id": made["slice_id"],
            "start": made["tf_first"],
            "end": made["tf_last"],
            "tf_count": made["tf_count"],
            "state": "queued",
            "substate": "new",
        }

    def _count(self, message: Message, count: int) -> None:
        path = f"/run-states/{message['run_id']}/"
        added = dict(zip(COUNTED, (1, count, count), strict=True))
        if self.site.batches:
            self.api.post(f"{path}increment/", added, Idempotency_Key=f"{self.name} {message['tf_filename']}")
            return
        row = self.api.get(path)
        self.api.patch(path, {**{name: row[name] + by for name, by in added.items()}, "state_changed_at": now()})

    def _finish(self, message: Message) -> None:
        content = message["content"]
        result = content["result"]["result"]
        (row, *_) = self.api.get("/tf-slices/", run_number=message["run_id"], slice_id=result["slice_id"])
        names = ("panda_task_id", "panda_id", "harvester_id", "processing_start_at", "result")
        metadata = {"worker_hostname": content["hostname"], **{name: content[name] for name in names}}
        status = "completed" if content["state"] == "done" else "failed"
        body = {"status": status, "processed_at": content["processed_at"], "metadata": metadata}
        self.api.patch(f"/tf-slices/{row['id']}/", body)

    def _note(self, message: Message, kind: str) -> None:
        event = {
            "timestamp": now(),
            "run_number": str(message["run_id"]),
            "event_type": kind,
            "state": "unknown",
            "substate": None,
            "event_data": dict(message),
        }
        self.api.post("/system-state-events/", event)
