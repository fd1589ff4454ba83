"""The application of the stream service."""

from fastapi import FastAPI

from sluice_core.service import Service, build
from sluice_stream.resources import SUBSCRIBERS
from sluice_stream.settings import Settings

__all__ = ["create_app"]


def create_app(settings: Settings | None = None) -> FastAPI:
    """Return the application; nothing connects before its lifespan begins.

    Parameters
    ----------
    settings
        Read from the environment when absent.
    """
    service = Service("stream", settings or Settings())
    return build(service, title="Sluice stream", package="sluice_stream", resources=(SUBSCRIBERS,))
