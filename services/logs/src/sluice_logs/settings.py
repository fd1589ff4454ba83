"""What the log service can be told from outside."""

from datetime import timedelta

from pydantic import Field

from sluice_core.settings import Duration, ServiceSettings, service_config

__all__ = ["Settings"]


class Settings(ServiceSettings):
    """Settings of the log service (``SLUICE_LOGS_<X>``)."""

    model_config = service_config("logs")

    anonymous_post: bool = Field(
        True, description="Whether programs may send log records without a token (decision 3); agents send none."
    )
    retention: Duration = Field(
        timedelta(days=90),
        ge=timedelta(0),
        le=timedelta(days=36500),
        description="Age at which records are dropped, a whole day of arrival at a time; 0 keeps them for ever.",
    )
    post_rate: float = Field(
        0.0,
        ge=0.0,
        le=1e6,
        description="Requests a second with which one source may send records, and ten times as many at once; beyond "
        "it they are answered 429; 0: no limit. Behind SLUICE_TRUSTED_PROXIES the forwarded address is the source.",
    )
    waiting_bytes: int = Field(
        64 * 2**20,
        ge=2**20,
        description="Bytes of records that may wait for their transaction; beyond it they are answered 503.",
    )
