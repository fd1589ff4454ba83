"""Long-lived tasks: one that dies turns readiness red and ends the process, which is then started anew.

A dead consumer behind a healthy HTTP port is the worst kind of up.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import structlog

from sluice_core.logging import mask

__all__ = ["Supervisor"]

log = structlog.get_logger(__name__)


class Supervisor:
    """Holds the long-lived tasks of one service.

    Attributes
    ----------
    died
        Set when a task ended that should have run for ever.
    reason
        Which one, and why.
    stopping
        Set at the beginning of `stop`; tasks spawned with ``graceful=True`` watch it and end by themselves.
    """

    def __init__(self) -> None:
        self.died = asyncio.Event()
        self.reason = ""
        self.stopping = asyncio.Event()
        self._tasks: dict[asyncio.Task[None], bool] = {}

    def spawn(self, name: str, run: Callable[[], Coroutine[Any, Any, None]], *, graceful: bool = False) -> None:
        """Start a task that runs until the service stops.

        Parameters
        ----------
        name
            Shown in logs and in readiness.
        run
            Makes the coroutine.
        graceful
            The task watches `stopping` and ends by itself (it acknowledges what it has in hand); it is cancelled only
            when it takes too long. Other tasks are cancelled at once.
        """
        if self.stopping.is_set():
            raise RuntimeError(f"{name} cannot start: the service is stopping")
        task = asyncio.create_task(run(), name=name)
        self._tasks[task] = graceful
        task.add_done_callback(self._ended)

    def check(self) -> tuple[bool, str]:
        """Say whether all tasks run: a readiness check."""
        return not self.died.is_set(), self.reason

    async def stop(self, deadline: float = 2.0) -> None:
        """End all tasks, the youngest first.

        Parameters
        ----------
        deadline
            Seconds for all of them together. A task that swallows its cancellation for longer is left behind, and
            logged.
        """
        self.stopping.set()
        loop = asyncio.get_running_loop()
        until = loop.time() + deadline
        for task, graceful in reversed(list(self._tasks.items())):
            if graceful:
                await asyncio.wait([task], timeout=max(0.0, until - deadline / 2 - loop.time()))
            task.cancel()
            await asyncio.wait([task], timeout=max(0.0, until - loop.time()))
            if not task.done():
                log.error("task does not stop", task=task.get_name())

    def _ended(self, task: asyncio.Task[None]) -> None:
        del self._tasks[task]
        if self.stopping.is_set():
            if not task.cancelled() and (failure := task.exception()) is not None:
                log.warning("task failed while stopping", task=task.get_name(), exc_info=failure)
            return
        failure = asyncio.CancelledError() if task.cancelled() else task.exception()
        why = "ended" if failure is None else mask(repr(failure))
        self.reason = self.reason or f"{task.get_name()}: {why}"
        log.error("task died", task=task.get_name(), reason=why, exc_info=failure)
        self.died.set()
