"""What the stream service can be told from outside."""

import ssl
from datetime import timedelta
from typing import Annotated, Self

from pydantic import AliasChoices, BeforeValidator, Field, SecretStr, StringConstraints, model_validator
from pydantic_settings import NoDecode, SettingsConfigDict

from sluice_core.settings import Duration, ServiceSettings, service_config
from sluice_stream.messages import canonical

__all__ = ["Settings"]


def _as_before(name: str) -> AliasChoices:
    """Names of a variable: our own, and that of the system that sites know (contract 7.1)."""
    return AliasChoices(f"SLUICE_STREAM_{name}", name)


def _listed(value: object) -> object:
    if not isinstance(value, str):
        return value
    return [canonical(part.strip()) for part in value.split(",") if part.strip()]


Destination = Annotated[str, StringConstraints(pattern=r"^/(topic|queue)/[^\s\x00-\x1f]+$", max_length=255)]


class Settings(ServiceSettings):
    """Settings of the stream service (``SLUICE_STREAM_<X>``)."""

    # The broker's variables have the names of the contract, and no prefix.
    model_config = service_config("stream") | SettingsConfigDict(validate_by_name=True, validate_by_alias=True)

    activemq_host: str = Field(
        "", validation_alias=_as_before("ACTIVEMQ_HOST"), description="Host of the STOMP broker; none when empty."
    )
    activemq_port: int = Field(
        61612, ge=1, le=65535, validation_alias=_as_before("ACTIVEMQ_PORT"), description="Port of the broker."
    )
    activemq_user: str = Field("admin", validation_alias=_as_before("ACTIVEMQ_USER"), description="User there.")
    activemq_password: SecretStr = Field(
        SecretStr("admin"), validation_alias=_as_before("ACTIVEMQ_PASSWORD"), description="Password there."
    )
    activemq_destinations: Annotated[tuple[Destination, ...], NoDecode, BeforeValidator(_listed)] = Field(
        ("/topic/epictopic",),
        min_length=1,
        validation_alias=AliasChoices("SLUICE_STREAM_ACTIVEMQ_DESTINATIONS", "ACTIVEMQ_HEARTBEAT_TOPIC"),
        description="What is recorded and streamed, comma separated; the broker keeps a topic's messages while nobody "
        "listens, also those of one that is taken off this list until its subscription is removed there.",
    )
    activemq_client_id: str = Field(
        "sluice-stream",
        min_length=1,
        description="Who we are to the broker; it keeps messages for this name.",
    )
    activemq_use_ssl: bool = Field(
        False, validation_alias=_as_before("ACTIVEMQ_USE_SSL"), description="Whether to speak TLS."
    )
    activemq_ssl_ca_certs: str = Field(
        "",
        validation_alias=_as_before("ACTIVEMQ_SSL_CA_CERTS"),
        description="PEM file with the authorities that may vouch for the broker; TLS is refused without one.",
    )
    activemq_ssl_cert_file: str = Field(
        "",
        validation_alias=_as_before("ACTIVEMQ_SSL_CERT_FILE"),
        description="PEM file of a client certificate; together with its key or not at all.",
    )
    activemq_ssl_key_file: str = Field(
        "", validation_alias=_as_before("ACTIVEMQ_SSL_KEY_FILE"), description="PEM file of its key."
    )
    bridge: bool = Field(
        True, description="Whether this process may be the bridge to the broker; of those that may, one is at a time."
    )
    bridge_lease: Duration = Field(
        timedelta(seconds=10),
        ge=timedelta(seconds=2),
        le=timedelta(minutes=10),
        description="How long after the death of a bridge another one waits; whole seconds.",
    )
    pulse_every: Duration = Field(
        timedelta(seconds=10),
        ge=timedelta(0),
        description="How often a heartbeat goes through the broker and back, to see that the bridge hears; 0: never.",
    )
    pulse_topic: Destination = Field("/topic/sluice.pulse", description="The topic it goes over.")
    stomp_port: int | None = Field(
        None,
        ge=0,
        le=65535,
        description="Port on which this service is a STOMP broker itself; unset: it is none, 0: any that is free. "
        "Of the processes that may, one is at a time.",
    )
    stomp_tls_port: int | None = Field(None, ge=0, le=65535, description="The same with TLS.")
    stomp_host: str = Field("0.0.0.0", description="Address of both.")  # noqa: S104 - a container's only one
    stomp_fd: int | None = Field(
        None, ge=0, description="A listening socket that was inherited, instead of making one on `stomp_port`."
    )
    stomp_tls_fd: int | None = Field(None, ge=0, description="The same for `stomp_tls_port`.")
    stomp_tls_cert: str = Field("", description="PEM file with the certificate chain of the TLS port.")
    stomp_tls_key: str = Field("", description="PEM file of its key.")
    stomp_lease: Duration = Field(
        timedelta(seconds=5),
        ge=timedelta(seconds=2),
        le=timedelta(minutes=10),
        description="How long after the death of a STOMP broker another one waits; whole seconds.",
    )
    stomp_connections: int = Field(1000, ge=1, description="Clients of the STOMP broker at once.")
    stomp_subscriptions: int = Field(100, ge=1, description="Subscriptions of one of them.")
    stomp_durables: int = Field(200, ge=0, description="Durable subscriptions of all.")
    stomp_prefetch: int = Field(
        10,
        ge=1,
        le=1000,
        description="Messages of a queue that one subscription has unacknowledged, where it does not say how many.",
    )
    stomp_body: int = Field(2**20, ge=1024, le=4 * 2**20, description="Bytes of one message.")
    stomp_buffer: int = Field(
        16 * 2**20, ge=2**20, description="Bytes that wait for a slow client; one that needs more is cut off."
    )
    stomp_shared_queues: Annotated[tuple[Destination, ...], NoDecode, BeforeValidator(_listed)] = Field(
        ("/queue/workflow_control",),
        description="Queues that agents of several namespaces share; each gets the messages of its own.",
    )
    stomp_result_queues: Annotated[tuple[Destination, ...], NoDecode, BeforeValidator(_listed)] = Field(
        ("/queue/panda.results.fastprocessing",),
        description="Queues whose messages of the type `slice_result` are recorded too.",
    )
    message_retention: Duration = Field(
        timedelta(days=90),
        ge=timedelta(0),
        le=timedelta(days=36500),
        description="Age at which recorded messages are deleted; 0 keeps them for ever.",
    )
    dead_letter_retention: Duration = Field(
        timedelta(days=30),
        ge=timedelta(0),
        le=timedelta(days=36500),
        description="Age at which dead letters are deleted; 0 keeps them for ever.",
    )
    dead_letters: int = Field(100_000, ge=1, description="Most dead letters that are kept, the newest ones.")
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

    @model_validator(mode="after")
    def _stomp_tls_has_a_certificate(self) -> Self:
        if self.stomp_tls_port is not None:
            try:
                ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(self.stomp_tls_cert, self.stomp_tls_key)
            except (OSError, ValueError) as exc:
                raise ValueError(f"stomp_tls_port: certificate and key cannot be read: {exc}") from None
        return self

    @model_validator(mode="after")
    def _tls_is_whole(self) -> Self:
        pair = (self.activemq_ssl_cert_file, self.activemq_ssl_key_file)
        if bool(pair[0]) != bool(pair[1]):
            raise ValueError("ACTIVEMQ_SSL_CERT_FILE and ACTIVEMQ_SSL_KEY_FILE belong together: give both or none")
        if not self.activemq_use_ssl or not self.activemq_host:
            return self
        if not self.activemq_ssl_ca_certs:
            raise ValueError("ACTIVEMQ_USE_SSL without ACTIVEMQ_SSL_CA_CERTS: there is no TLS without authorities")
        try:
            # Now, instead of at each connection for ever.
            context = ssl.create_default_context(cafile=self.activemq_ssl_ca_certs)
            if all(pair):
                context.load_cert_chain(*pair)
        except OSError as exc:
            raise ValueError(f"the TLS files of the broker cannot be read: {exc}") from None
        return self
