"""What the registry can be told from outside."""

from datetime import timedelta

from pydantic import AliasChoices, Field, SecretStr
from pydantic_settings import SettingsConfigDict

from sluice_core.settings import Duration, ServiceSettings, service_config

__all__ = ["Settings"]


class Settings(ServiceSettings):
    """Settings of the registry (``SLUICE_REGISTRY_<X>``)."""

    # Some names are those of decisions and of the contract, and have no prefix.
    model_config = service_config("registry") | SettingsConfigDict(validate_by_name=True, validate_by_alias=True)

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
    token_retention: Duration = Field(timedelta(days=90), description="Age at which an expired token leaves the list.")
    session_retention: Duration = Field(
        timedelta(days=1), description="Age at which an expired session leaves the table; audit records name it longer."
    )
    key_passphrase: SecretStr | None = Field(
        None,
        validation_alias=AliasChoices("SLUICE_REGISTRY_KEY_PASSPHRASE", "SLUICE_KEY_PASSPHRASE"),
        description="Encrypts the private signing keys in the database; also read from SLUICE_KEY_PASSPHRASE.",
    )
    key_delay: Duration = Field(
        timedelta(minutes=2),
        description="How long a new public key is in its bucket before it signs: time for all services to learn it.",
    )
    audit_retention: Duration = Field(
        timedelta(days=90), description="Age at which audit records are deleted; 0 keeps them for ever."
    )
    session_lifetime: Duration = Field(
        timedelta(hours=1), description="Life of a session that is not renewed; whoami renews one that is half over."
    )
    session_longest: Duration = Field(timedelta(days=1), description="Age at which a session ends in any case.")
    oidc_client_id: str = Field(
        "", description="What the facility's provider calls us; with it and SLUICE_OIDC_ISSUER people log in there."
    )
    oidc_client_secret: SecretStr | None = Field(
        None, description="Proves to the provider that we are we; none for a public client."
    )
    oidc_scopes: str = Field(
        "openid profile email", description="What is asked of the provider; many tell groups for one more word only."
    )
    mcp_connections: int = Field(
        1000, ge=0, description="WebSockets of the message control protocol that one process keeps open."
    )
    mcp_idle: Duration = Field(
        timedelta(minutes=5), description="Silence after which such a connection ends; agents send every minute."
    )
    mcp_rate: int = Field(
        50,
        ge=1,
        description="Messages a second that are read from one such connection; others wait with their sender.",
    )
    ai_memory_open: bool = Field(
        False,
        validation_alias="SLUICE_AI_MEMORY_OPEN",
        description="Whether AI memory is written and read without a token, as old hooks do (decision 12).",
    )
    ai_memory_retention: Duration = Field(
        timedelta(days=365), description="Age at which dialogues of AI memory are deleted; 0 keeps them for ever."
    )
    auth0_domain: str = Field(
        "",
        validation_alias="AUTH0_DOMAIN",
        description="Host of the OAuth server that /.well-known/oauth-protected-resource names; none when empty.",
    )
