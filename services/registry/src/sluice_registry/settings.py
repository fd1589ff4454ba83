"""What the registry can be told from outside."""

from datetime import timedelta

from pydantic import Field, SecretStr

from sluice_core.settings import Duration, ServiceSettings, service_config

__all__ = ["Settings"]


class Settings(ServiceSettings):
    """Settings of the registry (``SLUICE_REGISTRY_<X>``)."""

    model_config = service_config("registry")

    stale_after: Duration = Field(
        timedelta(minutes=3), description="Silence after which an agent counts as EXITED (decision 9)."
    )
    sweep_every: Duration = Field(
        timedelta(seconds=10), description="How often silent agents are looked for when nobody sends a heartbeat."
    )
    heartbeats_waiting: int = Field(
        4096, ge=1, description="Heartbeats that may wait for their transaction; beyond it they are answered 503."
    )
    admin_token: SecretStr | None = Field(
        None, description="First admin token, opaque; imported at every start. Usually given as ..._FILE."
    )
    token_lifetime: Duration = Field(timedelta(days=90), description="Life of a new token that names none.")
    key_passphrase: SecretStr | None = Field(
        None, description="Encrypts the private signing key in the database; the key is kept in clear without it."
    )
