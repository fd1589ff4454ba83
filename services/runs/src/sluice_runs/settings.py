"""What the run service can be told from outside."""

from pydantic import Field

from sluice_core.settings import ServiceSettings, service_config

__all__ = ["Settings"]


class Settings(ServiceSettings):
    """Settings of the run service (``SLUICE_RUNS_<X>``)."""

    model_config = service_config("runs")

    follow_messages: bool = Field(
        True,
        description="Whether messages move run states and finish slices (decision 15).",
    )
    accept_repeat: bool = Field(
        True,
        description="Whether a create that equals the row which exists is answered 200 with that row (decision 16).",
    )
