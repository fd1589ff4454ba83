"""What a service can be told from outside, by environment variables and mounted secrets.

Shared variables are ``SLUICE_<X>``, those of one service ``SLUICE_<SERVICE>_<X>``. A secret may lie in a file instead:
``SLUICE_REGISTRY_DATABASE_URL_FILE=/run/secrets/url`` is read when ``SLUICE_REGISTRY_DATABASE_URL`` is not set.
"""

import os
import re
from datetime import UTC, timedelta, tzinfo
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Any, Literal, get_args
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, available_timezones

from pydantic import AliasChoices, BeforeValidator, Field, PlainSerializer, SecretStr, field_validator
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

__all__ = [
    "Duration",
    "ServiceSettings",
    "Shared",
    "duration_text",
    "nats_url",
    "parse_duration",
    "postgres_url",
    "service_config",
]

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?")


def parse_duration(value: object) -> object:
    """Turn ``90s``, ``5m``, ``1.5h``, ``2d`` or a bare number of seconds into a `~datetime.timedelta`.

    Raises
    ------
    ValueError
        When a text is none of these.
    """
    if isinstance(value, bool):
        raise ValueError("a duration is written like 90s, 5m, 1h or 2d")
    if not isinstance(value, str | int | float):
        return value
    seconds: float
    if isinstance(value, str):
        match = _DURATION.fullmatch(value.strip().lower())
        if match is None:
            raise ValueError("a duration is written like 90s, 5m, 1h or 2d")
        seconds = float(match[1]) * _UNITS[match[2] or "s"]
    else:
        seconds = value
    try:
        return timedelta(seconds=seconds)
    except OverflowError:
        raise ValueError("a duration is shorter than a billion days") from None


def duration_text(value: timedelta) -> str:
    """Write a duration in the largest unit that divides it: ``5m``, not ``300s``."""
    seconds = value.total_seconds()
    for unit in ("d", "h", "m"):
        if seconds and seconds % _UNITS[unit] == 0:
            return f"{int(seconds / _UNITS[unit])}{unit}"
    return f"{seconds:g}s"


Duration = Annotated[timedelta, BeforeValidator(parse_duration), PlainSerializer(duration_text)]
"""A `~datetime.timedelta` that is written ``5m``, ``90s``, ``1h``, ``2d`` or in seconds."""


def nats_url(url: str) -> str:
    """Return a NATS URL as it is.

    Raises
    ------
    ValueError
        It is none; the message does not quote it, as it may hold a password.
    """
    for one in url.split(","):
        parts = urlsplit(one.strip())
        if parts.scheme not in ("nats", "tls") or not parts.hostname or not _has_port(parts.netloc):
            raise ValueError("a NATS URL is nats://user:password@host:port")
    return url


def postgres_url(url: str) -> str:
    """Return a PostgreSQL URL with the driver named.

    The secret of an operator says ``postgresql://``, which SQLAlchemy 2.1 takes for psycopg 3.

    Raises
    ------
    ValueError
        It is none; the message does not quote it, as it may hold a password.
    """
    parts = urlsplit(url)
    kinds = ("postgres", "postgresql", "postgresql+psycopg2")
    if parts.scheme not in kinds or not url.startswith(f"{parts.scheme}://") or not _has_port(parts.netloc):
        raise ValueError("a PostgreSQL URL is postgresql://user:password@host:port/database")
    return "postgresql+psycopg2" + url.removeprefix(parts.scheme)


def _has_port(netloc: str) -> bool:
    """Whether what stands behind the host is a port, or nothing."""
    return re.fullmatch(r"(\[[^\]]*\]|[^:\[\]]*)(:[0-9]{0,5})?", netloc.rpartition("@")[2]) is not None


def _comma_separated(value: object) -> object:
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return value


def _group_roles(value: object) -> object:
    """Turn ``physics=agent,admins=admin`` into pairs; a group's own name may hold ``=``."""
    if not isinstance(value, str):
        return value
    from sluice_core.auth.scopes import ROLES

    pairs = []
    for part in value.split(","):
        if not part.strip():
            continue
        group, _, role = (word.strip() for word in part.rpartition("="))
        if not group or role not in ROLES:
            raise ValueError(f"{part.strip()!r} is not GROUP=ROLE with one of the roles {', '.join(ROLES)}")
        pairs.append((group, role))
    return tuple(pairs)


class _SecretFiles(PydanticBaseSettingsSource):
    """Secrets from the files that ``<VARIABLE>_FILE`` names, as Kubernetes and Docker mount them."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        if field.annotation is not SecretStr and SecretStr not in get_args(field.annotation):
            return None, field_name, False
        alias = field.validation_alias
        aliases = alias.choices if isinstance(alias, AliasChoices) else [alias] if isinstance(alias, str) else []
        names = [f"{self.config.get('env_prefix', '')}{field_name}", *(str(each) for each in aliases)]
        variables = [f"{name}_FILE".upper() for name in names]
        variable = next((each for each in variables if os.environ.get(each)), None)
        if variable is None:
            return None, field_name, False
        path = os.environ[variable]
        try:
            return Path(path).read_text(encoding="utf-8").strip(), field_name, False
        except OSError as exc:
            raise SettingsError(f"{variable}: {exc.strerror}: {path}") from exc

    def __call__(self) -> dict[str, Any]:
        values = {name: self.get_field_value(field, name)[0] for name, field in self.settings_cls.model_fields.items()}
        return {name: value for name, value in values.items() if value is not None}


class _Settings(BaseSettings):
    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, _SecretFiles(settings_cls)


class Shared(_Settings):
    """What all services of one installation have in common (``SLUICE_<X>``)."""

    model_config = SettingsConfigDict(env_prefix="SLUICE_", frozen=True, extra="ignore")

    nats_url: SecretStr = Field(
        SecretStr("nats://localhost:4222"), description="NATS server to join, user and password included."
    )
    timezone: str = Field(
        "UTC", description="Zone of the date-times in answers, and of naive date-times in requests (IANA name)."
    )
    anonymous_read: bool = Field(True, description="Whether resources can be read without a token.")
    base_path: str = Field("", description="Prefix before every path, such as /swf-monitor.")
    public_url: str = Field(
        "", description="How clients reach the platform, prefix included; when empty the Host header of each request."
    )
    trusted_proxies: Annotated[tuple[IPv4Network | IPv6Network, ...], NoDecode, BeforeValidator(_comma_separated)] = (
        Field((), description="Networks of proxies whose X-Forwarded-For is believed by rate limits (comma separated).")
    )
    peer_url: str = Field(
        "http://sluice-{service}:8000", description="Where services find each other; {service} is replaced."
    )
    service_token: SecretStr | None = Field(
        None, description="Token for questions to other services that no caller's token can be passed on with."
    )
    oidc_issuer: str = Field(
        "",
        description="OpenID provider of the facility, as its tokens name it; without one all users are our own.",
    )
    oidc_audience: str = Field(
        "", description="What bearer tokens of the facility must be meant for; when empty none is accepted."
    )
    oidc_groups: Annotated[tuple[tuple[str, str], ...], NoDecode, BeforeValidator(_group_roles)] = Field(
        (), description="Roles of the facility's groups, such as physics=agent,admins=admin; a group may have several."
    )
    oidc_username_claim: str = Field(
        "preferred_username",
        min_length=1,
        description="Claim that has the user name; nobody may be able to change his own at the provider.",
    )
    oidc_groups_claim: str = Field("groups", min_length=1, description="Claim that lists the groups.")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level that is logged.")
    start_timeout: Duration = Field(
        timedelta(minutes=1), description="How long a starting service waits for PostgreSQL before it gives up."
    )

    @field_validator("nats_url")
    @classmethod
    def _is_nats(cls, url: SecretStr) -> SecretStr:
        return SecretStr(nats_url(url.get_secret_value()))

    @field_validator("timezone")
    @classmethod
    def _zone_exists(cls, name: str) -> str:
        if name not in available_timezones():
            raise ValueError(f"{name!r} is not a time zone")
        return name

    @field_validator("base_path")
    @classmethod
    def _normalise_prefix(cls, prefix: str) -> str:
        prefix = "/".join(part for part in prefix.strip().split("/") if part)
        if not re.fullmatch(r"[A-Za-z0-9._~/-]*", prefix) or {".", ".."} & set(prefix.split("/")):
            raise ValueError("a base path consists of letters, digits and ._~- between slashes")
        return f"/{prefix}" if prefix else ""

    @field_validator("public_url")
    @classmethod
    def _absolute(cls, url: str) -> str:
        if url and not re.fullmatch(r"https?://[^/?#\s]+[^?#\s]*", url):
            raise ValueError("a public URL is absolute: https://host/prefix")
        return url.rstrip("/")

    @field_validator("oidc_issuer")
    @classmethod
    def _issuer(cls, url: str) -> str:
        # Kept to the character: tokens are compared with it.
        if url and not re.fullmatch(r"https?://[^/?#\s]+[^?#\s]*", url):
            raise ValueError("an issuer is a URL: https://host/path")
        return url

    @field_validator("log_level", mode="before")
    @classmethod
    def _any_case(cls, level: object) -> object:
        return level.lower() if isinstance(level, str) else level

    @property
    def zone(self) -> tzinfo:
        """The server zone; `datetime.UTC` itself for ``UTC``."""
        return UTC if self.timezone == "UTC" else ZoneInfo(self.timezone)

    def peer(self, service: str) -> str:
        """Return the base URL under which a service asks another one."""
        return self.peer_url.replace("{service}", service).rstrip("/")


class ServiceSettings(_Settings):
    """What every service needs of its own; a service adds its knobs in a subclass.

    Examples
    --------
    >>> class Settings(ServiceSettings):
    ...     model_config = service_config("logs")
    """

    shared: Shared = Field(default_factory=Shared, description="What all services have in common.")
    database_url: SecretStr = Field(description="PostgreSQL URL of the service's own database, password included.")
    pool_size: int = Field(8, ge=1, description="Database connections, and as many worker threads.")

    @field_validator("database_url")
    @classmethod
    def _is_postgres(cls, url: SecretStr) -> SecretStr:
        return SecretStr(postgres_url(url.get_secret_value()))


def service_config(service: str) -> SettingsConfigDict:
    """Return the ``model_config`` of a service's settings: variables ``SLUICE_<SERVICE>_<X>``."""
    return SettingsConfigDict(env_prefix=f"SLUICE_{service.upper()}_", frozen=True, extra="ignore")
