"""What the physics configuration service can be told from outside."""

from datetime import timedelta

from pydantic import Field

from sluice_core.settings import Duration, ServiceSettings, service_config

__all__ = ["Settings"]


class Settings(ServiceSettings):
    """Settings of the physics configuration service (``SLUICE_PCS_<X>``)."""

    model_config = service_config("pcs")

    require_locked: bool = Field(
        True, description="Whether a dataset takes locked tags only. False is for commissioning: drafts may change."
    )
    report_retention: Duration = Field(
        timedelta(days=30), description="How long a report of files that is sent again is known by its key."
    )
    operations_queue: bool = Field(
        False,
        description="Whether what is asked of JEDI also goes to the broker, to `/queue/epicprod.ops`, by way of the "
        "bridge. Events `pcs.task.*` say it in any case.",
    )
    transformation: str = Field(
        "https://pandaserver-doma.cern.ch/trf/user/runGen-00-00-02",
        description="URL of the PanDA transformation of tasks whose configuration names none.",
    )
