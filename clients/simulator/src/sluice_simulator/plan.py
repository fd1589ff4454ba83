"""What a run consists of, and at which simulated second each of it happens (swf-clients.md 3.2 and 8.1)."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

__all__ = ["BROADCAST", "DAQ", "DONE", "Plan", "Step", "schedule"]

DAQ: Mapping[str, float] = {
    "no_beam_not_ready_delay": 5.0,
    "beam_not_ready_delay": 5.0,
    "beam_ready_delay": 2.0,
    "beam_not_ready_end_delay": 5.0,
    "broadcast_delay": 1.0,
    "stf_interval": 2.0,
    "stf_generation_time": 0.1,
    "standby_duration": 2.0,
}
"""Seconds of the state machine of the data acquisition, by the names of its configuration."""

BROADCAST = 0.1
"""Seconds that each broadcast takes."""

DONE = "completed"
"""The last step, which is no message: the execution has come to its end."""


@dataclass(frozen=True)
class Plan:
    """A run to play.

    Attributes
    ----------
    stfs
        STF files of each period; None: as many as fit.
    period
        Simulated seconds of each period, where the number of its files does not end it.
    tfs
        TF files that are taken from each STF file.
    slices
        Of each TF file; None: one for two time frames, as the real agent makes them.
    speed
        Simulated seconds in a real one.
    daq
        Where it differs from `DAQ`.
    """

    stfs: int | None = 10
    periods: int = 1
    period: float = 10.0
    tfs: int = 7
    slices: int | None = None
    speed: float = 1.0
    daq: Mapping[str, float] = field(default_factory=dict)

    @cached_property
    def files(self) -> int:
        """STF files of the whole run."""
        return sum(step.what == "stf_gen" for step in schedule(self))

    @property
    def seconds(self) -> Mapping[str, float]:
        """Every duration of the state machine."""
        return {**DAQ, **self.daq}

    def configuration(self, namespace: str) -> dict[str, Any]:
        """Return it as agents read it from their execution: sections of parameters."""
        return {
            "testbed": {"namespace": namespace},
            "workflow": {"name": "stf_datataking", "version": "1.0", "config": "fast_processing_default"},
            "daq_state_machine": {
                **self.seconds,
                "physics_period_duration": self.period,
                "physics_period_count": self.periods,
            },
            "fast_processing": {
                "stf_count": self.stfs,
                "physics_period_count": self.periods,
                "target_worker_count": 30,
                "stf_sampling_rate": 1.0,
                "slices_per_sample": self.slices or 15,
                "slice_processing_time": 30,
                "worker_rampup_time": 300,
                "worker_rampdown_time": 60,
            },
        }


class Step(NamedTuple):
    """Something that the runner does.

    Attributes
    ----------
    tick
        Simulated seconds since the beginning; sums of floats, noise included.
    what
        Type of the message that it sends, or `DONE`.
    more
        What that message says beside what all say.
    """

    tick: float
    what: str
    more: Mapping[str, Any]


def schedule(plan: Plan) -> Iterator[Step]:
    """Yield what the runner does, in order.

    The waits are added one by one, as the simulator of the testbed does: its ticks are the same floats.
    """
    daq, now, sequence = plan.seconds, 0.0, 0

    def after(*delays: str) -> None:
        nonlocal now
        for name in delays:
            now += daq[name]

    def sent() -> None:
        nonlocal now
        now += BROADCAST

    physics = {"state": "run", "substate": "physics"}
    after("no_beam_not_ready_delay")
    yield Step(now, "run_imminent", {"state": "beam", "substate": "not_ready"})
    sent()
    after("broadcast_delay", "beam_not_ready_delay", "beam_ready_delay")
    yield Step(now, "start_run", physics)
    sent()
    after("broadcast_delay")
    for period in range(plan.periods):
        if period:
            standby = {"state": "run", "substate": "standby", "reason": "Brief standby period"}
            yield Step(now, "pause_run", standby)
            sent()
            after("broadcast_delay", "standby_duration")
            yield Step(now, "resume_run", physics)
            sent()
            after("broadcast_delay")
        end, first = now + plan.period, sequence
        while sequence - first < plan.stfs if plan.stfs else now < end:
            sequence += 1
            yield Step(now, "stf_gen", {**physics, "sequence": sequence})
            sent()
            after("stf_generation_time")
            # Nothing is waited for after the last one of a number, but after the last one of a time.
            if sequence - first < plan.stfs if plan.stfs else now < end:
                after("stf_interval")
    yield Step(now, "end_run", {"total_stf_files": sequence})
    sent()
    after("broadcast_delay", "beam_not_ready_end_delay")
    yield Step(now, DONE, {})
