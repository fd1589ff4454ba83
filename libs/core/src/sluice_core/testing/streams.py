"""The streams and buckets of the platform, made as the registry makes them."""

from sluice_core.bus import Bucket, Bus, Stream
from sluice_core.bus.permissions import SERVICES

__all__ = ["make_streams"]


async def make_streams(url: str) -> None:
    """Make all of them on a server that lets us."""
    bus = Bus(url, name="test")
    await bus.open()
    try:
        kept = SERVICES["registry"].keep
        streams = [each for each in kept if isinstance(each, Stream)]
        await bus.ensure(streams, [each for each in kept if isinstance(each, Bucket)])
    finally:
        await bus.close()
