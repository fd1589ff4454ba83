"""The application of the stream service."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from sluice_core.service import Service, build
from sluice_stream.resources import SUBSCRIBERS
from sluice_stream.settings import Settings
from sluice_stream.sse.wiring import Sse

__all__ = ["create_app"]


def create_app(settings: Settings | None = None) -> FastAPI:
    """Return the application; nothing connects before its lifespan begins.

    Parameters
    ----------
    settings
        Read from the environment when absent.
    """
    settings = settings or Settings()
    service = Service("stream", settings)
    sse = Sse(service, settings)

    @asynccontextmanager
    async def wire(service: Service) -> AsyncIterator[None]:
        async with sse.running():
            yield

    return build(
        service,
        title="Sluice stream",
        package="sluice_stream",
        resources=(SUBSCRIBERS,),
        endpoints=(*sse.endpoints,),
        wire=wire,
    )
