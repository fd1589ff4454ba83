"""Waiting for a condition instead of sleeping a guess."""

import asyncio
import inspect
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar, cast, overload

__all__ = ["eventually", "eventually_async"]

T = TypeVar("T")
STEP = 0.01


class _Deadline:
    """Remembers why the last attempt was not good enough."""

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._end = time.monotonic() + timeout

    def check(self, last: object) -> None:
        if time.monotonic() < self._end:
            return
        if isinstance(last, AssertionError):
            raise last
        raise AssertionError(f"not within {self._timeout} s; last seen: {last!r}")


def eventually(attempt: Callable[[], T], timeout: float = 10) -> T:
    """Return the first true value of `attempt`.

    Parameters
    ----------
    attempt
        Called until it returns something true; a failed assertion in it counts as not yet.
    timeout
        In seconds.

    Raises
    ------
    AssertionError
        None came in time: the last failed assertion, or one that shows the last value.
    """
    deadline = _Deadline(timeout)
    while True:
        try:
            last: object = attempt()
            if last:
                return cast(T, last)
        except AssertionError as exc:
            last = exc
        deadline.check(last)
        time.sleep(STEP)


@overload
async def eventually_async(attempt: Callable[[], Coroutine[Any, Any, T]], timeout: float = 10) -> T: ...
@overload
async def eventually_async(attempt: Callable[[], T], timeout: float = 10) -> T: ...
async def eventually_async(attempt: Callable[[], Any], timeout: float = 10) -> Any:
    """Do the same without blocking the loop; `attempt` may be a coroutine function.

    Raises
    ------
    AssertionError
        As `eventually`.
    """
    deadline = _Deadline(timeout)
    while True:
        try:
            last = attempt()
            if inspect.isawaitable(last):
                last = await last
            if last:
                return last
        except AssertionError as exc:
            last = exc
        deadline.check(last)
        await asyncio.sleep(STEP)
