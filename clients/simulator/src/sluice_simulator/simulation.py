"""A whole run: starts the agents, waits until all of it is done, and compares what is there with what was planned."""

import random
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field

from sluice_simulator.api import Api
from sluice_simulator.plan import Plan
from sluice_simulator.roles import Data, Fast, Fastmon, Runner, Workers
from sluice_simulator.roles.agent import Agent, Site

__all__ = ["Options", "Simulation", "Summary"]

# Seconds without any progress after which it will not come; longer than agents try a request.
PATIENCE = 180.0
GLANCE = 0.1


@dataclass(frozen=True)
class Options:
    """Who takes part, beyond the four who always do.

    Attributes
    ----------
    workers
        Whether workers answer the slices.
    controlled
        Whether the runner takes commands from the queue that all runners at a broker share.
    seed
        Of the sizes of samples.
    """

    workers: bool = False
    controlled: bool = False
    seed: int | None = None


@dataclass(frozen=True)
class Summary:
    """What became of a run.

    Attributes
    ----------
    ticks
        What the runner sent, and at which simulated second.
    counts
        What agents did.
    checks
        What should be, and whether it is; empty for a run that was stopped.
    problems
        What agents could not do.
    """

    execution_id: str
    run_number: int
    stopped: bool
    seconds: float
    ticks: list[tuple[str, float]]
    counts: Mapping[str, int]
    checks: Mapping[str, bool] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether all is as it should be."""
        return all(self.checks.values()) and not self.problems


class Simulation:
    """One run to be played.

    Parameters
    ----------
    site
        Where, and for whom.
    plan
        What the run consists of.
    """

    def __init__(self, site: Site, plan: Plan, options: Options | None = None) -> None:
        options = options or Options()
        self.site = site
        self.plan = plan
        # Sizes of samples are no secret.
        chance = random.Random(options.seed)  # noqa: S311
        self.runner = Runner(site, plan, controlled=options.controlled)
        self.data = Data(site, speed=plan.speed)
        self.fastmon = Fastmon(site, tfs=plan.tfs, chance=chance)
        self.fast = Fast(site, slices=plan.slices)
        self.workers = Workers(site) if options.workers else None

    @property
    def agents(self) -> list[Agent]:
        """Who listens; the runner comes last, so that nobody misses its beginning."""
        others = [self.workers] if self.workers else []
        return [*others, self.fast, self.fastmon, self.data, self.runner]

    def counts(self) -> dict[str, int]:
        """Return what was done so far."""
        found = {
            "stf_generated": self.runner.generated,
            "stf_processed": self.data.processed,
            "tf_registered": self.fastmon.files,
            "tf_processed": self.fast.files,
            "slices": self.fast.slices,
        }
        if self.workers is not None:
            found["results"] = self.fast.results
        return found

    def total(self) -> dict[str, int]:
        """Return what shall be done; of slices, as far as that is known."""
        files, samples = self.plan.files, self.plan.files * self.plan.tfs
        found = {
            "stf_generated": files,
            "stf_processed": files,
            "tf_registered": samples,
            "tf_processed": samples,
            "slices": samples * self.plan.slices if self.plan.slices else self.fast.slices,
        }
        if self.workers is not None:
            found["results"] = found["slices"]
        return found

    def run(self, watch: Callable[["Simulation"], None] = lambda _: None) -> Summary:
        """Play the run.

        Parameters
        ----------
        watch
            Called several times a second.

        Raises
        ------
        ApiError
            The run could not be registered.
        BusAway
            There is no broker.
        """
        began = time.monotonic()
        with ExitStack() as alive:
            for agent in self.agents:
                alive.enter_context(agent)
            number = self.runner.register()
            for agent in self.agents:
                agent.run = number
            done = self._play(watch) and self._settle(watch)
            checks = self._compare() if done else {}
        problems = [problem for agent in self.agents for problem in agent.problems]
        stopped = not done and self.runner.stopped
        if not done and not stopped:
            problems.append(f"nothing more happened for {PATIENCE:g} s: {self.counts()} of {self.total()}")
        seconds = time.monotonic() - began
        ticks, execution = self.runner.ticks, self.runner.execution_id
        return Summary(execution, number, stopped, seconds, ticks, self.counts(), checks, problems)

    def _play(self, watch: Callable[["Simulation"], None]) -> bool:
        """Let the runner play; Ctrl-C stops it as its users stop a run."""
        failure: list[BaseException] = []

        def play() -> None:
            try:
                self.runner.play()
            except BaseException as exc:
                failure.append(exc)

        thread = threading.Thread(target=play, name="run")
        thread.start()
        while thread.is_alive():
            try:
                thread.join(GLANCE)
                watch(self)
            except KeyboardInterrupt:
                self.runner.stop()
        if failure:
            raise failure[0]
        return not self.runner.stopped

    def _settle(self, watch: Callable[["Simulation"], None]) -> bool:
        """Wait until agents, which are slower than the bus, have done all of it."""
        before, since = self.counts(), time.monotonic()
        while time.monotonic() < since + PATIENCE:
            watch(self)
            counts = self.counts()
            if counts == self.total() and self.data.ended and self.fast.ended:
                return True
            if counts != before:
                before, since = counts, time.monotonic()
            self.runner.stopping.wait(GLANCE)
        return False

    def _compare(self) -> dict[str, bool]:
        api: Api = self.runner.api
        number, counts = self.runner.number, self.counts()
        (run,) = api.get("/runs/", run_number=number)
        report = api.get(f"/runs/{run['run_id']}/report/")
        state = api.get(f"/run-states/{number}/")
        execution = api.get(f"/workflow-executions/{self.runner.execution_id}/")
        files, samples, slices = report["stf_files"], report["tf_files"], report["slices"]
        found = {
            "every STF file is there, and processed": files["by_status"] == {"processed": self.plan.files},
            "every TF file is there": samples["count"] == self.plan.files * self.plan.tfs,
            "every slice is there": slices["count"] == counts["slices"],
            "counted TF files are the rows": state["stf_samples_received"] == samples["count"],
            "counted slices are the rows": state["slices_created"] == slices["count"],
            "the run state has ended": (state["phase"], state["state"]) == ("completed", "ended"),
            "the run has an end": run["end_time"] is not None,
            "the execution is completed": execution["status"] == "completed",
        }
        if self.workers is not None:
            found["every slice is completed"] = slices["by_status"] == {"completed": slices["count"]}
        return found
