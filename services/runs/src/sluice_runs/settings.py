"""What the run service can be told from outside."""

from datetime import timedelta

from pydantic import Field

from sluice_core.settings import Duration, ServiceSettings, service_config

__all__ = ["Settings"]


class Settings(ServiceSettings):
    """Settings of the run service (``SLUICE_RUNS_<X>``)."""

    model_config = service_config("runs")

    follow_messages: bool = Field(
        True,
        description="Whether messages move run states and finish slices (decision 15).",
    )
    stale_every: Duration = Field(
        timedelta(seconds=30), gt=timedelta(0), description="Time between two looks for what is stale."
    )
    execution_stale_after: Duration = Field(
        timedelta(minutes=10),
        gt=timedelta(0),
        description="Silence after which an execution is stale that runs without a runner known to live.",
    )
    state_stale_after: Duration = Field(
        timedelta(hours=1),
        gt=timedelta(0),
        description="Silence after which a run that has not ended counts as stuck.",
    )
    stf_stale_after: Duration = Field(
        timedelta(hours=1),
        gt=timedelta(0),
        description="Age at which an STF file that nobody has processed is stale.",
    )
    messages_retention: Duration = Field(
        timedelta(days=90),
        ge=timedelta(days=1),
        le=timedelta(days=36500),
        description="Age at which it is forgotten that a message about a run came; histories of states are kept.",
    )
    accept_repeat: bool = Field(
        True,
        description="Whether a create that equals the row which exists is answered 200 with that row (decision 16).",
    )
