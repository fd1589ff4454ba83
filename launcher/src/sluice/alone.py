"""One service alone, as in a container; everything it needs is told by the environment."""

import asyncio

import structlog
import uvloop

from sluice.services import chosen
from sluice.starting import without_garbage_collection
from sluice_core.cli import Failure
from sluice_core.database import DatabaseAway, SchemaOutdated
from sluice_core.http.admin import Observed, admin_app
from sluice_core.http.server import Listener, PortBusy, Server, ServiceDied, serve, stop_on_signals
from sluice_core.logging import configure_logging

__all__ = ["run"]

log = structlog.get_logger(__name__)


def run(name: str, *, host: str, http: int, admin: int) -> None:
    """Serve one service until it is told to stop.

    Parameters
    ----------
    name
        Of the service.
    host
        Address of both ports.
    http, admin
        Ports; 0: the kernel chooses, and the line ``ready`` of the log tells.

    Raises
    ------
    Failure
        It cannot start, or died; one sentence says why.
    """
    (service,) = chosen([name])
    with without_garbage_collection():
        settings = service.settings()
        configure_logging(settings.shared.log_level)
        app = service.create_app(settings)
    try:
        public, private = Listener(host, http), Listener(host, admin)
    except PortBusy as exc:
        raise Failure(str(exc)) from exc

    def ready() -> None:
        log.info("ready", service=name, http=public.url() + settings.shared.base_path, admin=private.url())

    async def main() -> None:
        stop = asyncio.Event()
        probes = admin_app(Observed(app.state.service.health, app.state.service.metrics))
        with stop_on_signals(stop):
            await serve([app], [Server(app, public)], admin=Server(probes, private), stop=stop, on_ready=ready)

    try:
        asyncio.Runner(loop_factory=uvloop.new_event_loop).run(main())
    except (SchemaOutdated, DatabaseAway, ServiceDied) as exc:
        raise Failure(str(exc)) from exc
