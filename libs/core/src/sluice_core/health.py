"""Whether a service can take requests: named checks, each bounded in time."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from sluice_core.logging import mask

__all__ = ["Check", "Health", "Report", "Result"]


class Result(NamedTuple):
    """The outcome of one check."""

    ok: bool
    detail: str = ""


Check = Callable[[], tuple[bool, str] | Awaitable[tuple[bool, str]]]
"""Says whether all is well, and what not; must not block."""


class Report(NamedTuple):
    """All checks at one moment."""

    ok: bool
    checks: dict[str, Result]

    def body(self) -> dict[str, object]:
        """Return the answer of ``/readyz``."""
        return {
            "status": "ready" if self.ok else "not ready",
            "checks": {name: {"ok": result.ok, "detail": result.detail} for name, result in self.checks.items()},
        }


class Health:
    """The checks behind ``/readyz``.

    Parameters
    ----------
    max_age
        Seconds for which a good report is given out again, so that probes and dashboards cost nothing; a bad one for a
        fifth of it, so that a service which has just become ready is seen to be.
    timeout
        Seconds after which a check that says nothing has failed.

    Attributes
    ----------
    draining
        Set when the process begins to stop: no new requests should come, those that run are finished.
    """

    def __init__(self, *, max_age: float = 1.0, timeout: float = 2.0) -> None:
        self.draining = False
        self._max_age = max_age
        self._timeout = timeout
        self._checks: dict[str, Check] = {}
        self._report: Report | None = None
        self._taken = 0.0
        self._running: asyncio.Task[Report] | None = None

    def add(self, name: str, check: Check) -> None:
        """Add a check; one of the same name is replaced."""
        self._checks[name] = check
        self._report = None

    async def ready(self) -> Report:
        """Return a report that is at most `max_age` old. Callers at the same time share one run of the checks."""
        if self.draining:
            return Report(False, {"process": Result(False, "stopping")})
        if self._report is not None:
            kept = self._max_age if self._report.ok else self._max_age / 5
            if time.monotonic() - self._taken < kept:
                return self._report
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._run(), name="readiness")
        # A probe that gives up must not take the run away from the others.
        return await asyncio.shield(self._running)

    async def _run(self) -> Report:
        names = list(self._checks)
        results = await asyncio.gather(*(self._one(self._checks[name]) for name in names))
        self._report = Report(all(result.ok for result in results), dict(zip(names, results, strict=True)))
        self._taken = time.monotonic()
        return self._report

    async def _one(self, check: Check) -> Result:
        try:
            outcome = check()
            if inspect.isawaitable(outcome):
                outcome = await asyncio.wait_for(outcome, self._timeout)
            return Result(*outcome)
        except TimeoutError:
            return Result(False, f"no answer in {self._timeout:g} s")
        except Exception as exc:
            return Result(False, mask(f"{type(exc).__name__}: {exc}"))
