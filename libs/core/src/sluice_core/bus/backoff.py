"""Wait longer after each failure, and not all at the same moment."""

import asyncio
import random

__all__ = ["Backoff"]


class Backoff:
    """Delays that double.

    Parameters
    ----------
    first, longest
        Seconds.
    """

    def __init__(self, first: float = 0.1, longest: float = 10.0) -> None:
        self._first = first
        self._longest = longest
        self._next = first

    def reset(self) -> None:
        """Begin anew: something worked."""
        self._next = self._first

    async def wait(self, stop: asyncio.Event | None = None) -> None:
        """Wait for the next delay, less up to half of it by chance; or until ``stop`` is set."""
        delay = self._next * random.uniform(0.5, 1)  # noqa: S311
        self._next = min(self._next * 2, self._longest)
        try:
            async with asyncio.timeout(delay):
                await (stop or asyncio.Event()).wait()
        except TimeoutError:
            pass
