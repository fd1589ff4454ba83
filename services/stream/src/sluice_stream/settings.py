"""What the stream service can be told from outside."""

from datetime import timedelta

from pydantic import Field

from sluice_core.settings import Duration, ServiceSettings, service_config

__all__ = ["Settings"]


class Settings(ServiceSettings):
    """Settings of the stream service (``SLUICE_STREAM_<X>``)."""

    model_config = service_config("stream")

    sse_queue: int = Field(
        100,
        ge=50,
        description="Events that wait for a slow client of the event stream; the oldest leaves for a new one.",
    )
    sse_heartbeat: Duration = Field(
        timedelta(seconds=30),
        gt=timedelta(0),
        description="How often a quiet event stream says that it lives; a client that is gone is noticed within two.",
    )
    sse_clients: int = Field(
        5000, ge=1, description="Clients of the event stream that one process serves; more are answered 503."
    )
    sse_replay: int = Field(
        50_000,
        ge=0,
        description="Messages that a client may have missed; one that comes back later gets the event `reset` instead.",
    )
    sse_counters_every: Duration = Field(
        timedelta(seconds=2), description="How often the counters of the event stream's subscribers are written."
    )
    sse_retention: Duration = Field(
        timedelta(days=7), description="How long the subscriber of an event stream that ended is kept."
    )
    sse_allow_origin: str = Field(
        "*",
        description=(
            "Access-Control-Allow-Origin of the event stream; empty: none. `*` opens it to nobody: browsers send no "
            "cookie then, and who has a token needs no browser."
        ),
    )
