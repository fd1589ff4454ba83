"""What the log service can be told from outside."""

from pydantic import Field

from sluice_core.settings import ServiceSettings, service_config

__all__ = ["Settings"]


class Settings(ServiceSettings):
    """Settings of the log service (``SLUICE_LOGS_<X>``)."""

    model_config = service_config("logs")

    anonymous_post: bool = Field(
        True, description="Whether programs may send log records without a token (decision 3); agents send none."
    )
