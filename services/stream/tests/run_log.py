"""The messages of one complete run, as agents send them (swf-clients.md 8.1, its check values)."""

import json
from collections.abc import Iterator
from typing import Any

__all__ = ["complete_run"]

RUN = "100010"
EXECUTION = "stf_datataking-ada-0001"
NAMESPACE = "torre1"
RUNNER, DATA, FASTMON = "daq_simulator-agent-ada-1", "data-agent-ada-2", "fastmon-agent-ada-3"
STATES = {
    "run_imminent": ("beam", "not_ready"),
    "start_run": ("run", "physics"),
    "stf_gen": ("run", "physics"),
    "pause_run": ("run", "standby"),
    "resume_run": ("run", "physics"),
}
# Delays of 1, an interval of 1, 2 STFs in each of 2 periods; with the noise that floating point leaves in the JSON.
TICKS = (
    ("run_imminent", 1),
    ("start_run", 4.1),
    ("stf_gen", 5.199999999999999),
    ("stf_gen", 6.399999999999999),
    ("pause_run", 6.599999999999998),
    ("resume_run", 9.7),
    ("stf_gen", 10.799999999999999),
    ("stf_gen", 11.999999999999998),
    ("end_run", 12.199999999999998),
)


def complete_run() -> Iterator[str]:
    """Yield the bodies in their order."""
    sequence = 0
    for msg_type, tick in TICKS:
        more: dict[str, Any] = {}
        if msg_type in STATES:
            more |= dict(zip(("state", "substate"), STATES[msg_type], strict=True))
        if msg_type == "pause_run":
            more["reason"] = "Brief standby period"
        if msg_type == "end_run":
            more["total_stf_files"] = sequence
        if msg_type == "stf_gen":
            sequence += 1
            more |= {"filename": f"swf.{RUN}.{sequence:06d}.stf", "sequence": sequence}
        yield _message(RUNNER, msg_type, execution_id=EXECUTION, run_id=RUN, simulation_tick=tick, **more)
        if msg_type == "stf_gen":
            yield from _reactions(f"swf.{RUN}.{sequence:06d}", sequence, tick)


def _reactions(base: str, sequence: int, tick: float) -> Iterator[str]:
    yield _message(
        DATA,
        "stf_ready",
        filename=f"{base}.stf",
        run_id=RUN,
        file_url=f"file:///data/{base}.stf",
        checksum="ad:1234",
        size_bytes=1024,
        start="20260505100000",
        end="20260505100002",
        state="run",
        substate="physics",
        sequence=sequence,
        simulation_tick=tick,
        processed_by=DATA,
    )
    for number in range(1, 8):
        yield _message(
            FASTMON,
            "tf_file_registered",
            run_id=RUN,
            execution_id=None,
            processed_by=FASTMON,
            tf_file_id=7 * sequence + number,
            tf_filename=f"{base}_tf_{number:03d}.tf",
            tf_first=number,
            tf_last=number + 21,
            tf_count=22,
            file_size_bytes=154,
            stf_filename=f"{base}.stf",
            status="registered",
        )


def _message(sender: str, msg_type: str, **content: Any) -> str:
    # As `send_message` of the agents' library writes it: their own keys first.
    stamp = {"timestamp": "2026-05-05T10:00:00.123456"}
    return json.dumps({"msg_type": msg_type, **content, **stamp, "sender": sender, "namespace": NAMESPACE})
