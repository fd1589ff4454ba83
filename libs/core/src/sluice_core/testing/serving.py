"""A service behind real ports, in a thread of the test's own process."""

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import NamedTuple

from fastapi import FastAPI

from sluice_core.http.admin import Observed, admin_app
from sluice_core.http.server import Listener, Server, serve

__all__ = ["Served", "serving"]

START = 30.0


class Served(NamedTuple):
    """Where a service answers.

    Attributes
    ----------
    url
        Of the API, without a slash at the end.
    admin_url
        Of ``/healthz``, ``/readyz`` and ``/metrics``.
    """

    url: str
    admin_url: str


@contextmanager
def serving(app: FastAPI) -> Iterator[Served]:
    """Serve an application made by `sluice_core.service.build`, as ``sluice serve`` does, on kernel-chosen ports.

    Raises
    ------
    Exception
        What hindered it from starting, or made it end.
    """
    public, admin = Listener("127.0.0.1", 0), Listener("127.0.0.1", 0)
    ready: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()
    observed = Observed(app.state.service.health, app.state.service.metrics)

    async def run() -> None:
        stop = asyncio.Event()
        held = asyncio.get_running_loop(), stop
        await serve(
            [app],
            [Server(app, public)],
            admin=Server(admin_app(observed), admin),
            stop=stop,
            on_ready=lambda: ready.set_result(held),
        )

    ended: Future[None] = Future()

    def live() -> None:
        try:
            asyncio.run(run())
        except Exception as exc:
            ended.set_exception(exc)
            if not ready.done():
                ready.set_exception(exc)
        else:
            ended.set_result(None)

    thread = threading.Thread(target=live, name="serving")
    thread.start()
    loop, stop = ready.result(START)
    try:
        yield Served(public.url(), admin.url())
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        ended.result()
