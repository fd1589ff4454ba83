"""The application of the log service."""

from dataclasses import replace

from fastapi import FastAPI

from sluice_core.service import Service, build
from sluice_logs.handlers import endpoints
from sluice_logs.resources import LOGS
from sluice_logs.service import Logs
from sluice_logs.settings import Settings

__all__ = ["create_app"]


def create_app(settings: Settings | None = None) -> FastAPI:
    """Return the application; nothing connects before its lifespan begins.

    Parameters
    ----------
    settings
        Read from the environment when absent.
    """
    settings = settings or Settings()
    service = Service("logs", settings)
    return build(
        service,
        title="Sluice logs",
        package="sluice_logs",
        resources=(replace(LOGS, create_open=settings.anonymous_post),),
        endpoints=endpoints(service.database, Logs(service.database)),
    )
