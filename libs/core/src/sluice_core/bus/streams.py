"""The streams, buckets and consumers that exist, and how they are made.

The table is that of the architecture; services that come later add their streams here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from .errors import StreamDiffers
from .session import ApiError, Session

__all__ = [
    "AGENTS",
    "AUDIT",
    "DLQ",
    "DURABLES",
    "HEARTBEATS",
    "INBOUND",
    "KEYS",
    "LEASES",
    "LOGS",
    "MESSAGES",
    "OUTBOUND",
    "PCS",
    "PCS_KINDS",
    "QUEUES",
    "REVOKED",
    "RUNS",
    "SUBSCRIPTIONS",
    "TOKENS",
    "Bucket",
    "Consumer",
    "Stream",
    "ensure",
    "ensure_consumer",
]

MB = 1024 * 1024
DAY = 86400.0

_NO_STREAM = 10059
# What nats-server cannot change in a stream that exists.
_FIXED = ("storage", "retention")


@dataclass(frozen=True, kw_only=True)
class Stream:
    """A declared stream.

    Attributes
    ----------
    name
        Upper case, as in the architecture.
    subjects
        What it takes; may hold wildcards.
    max_bytes
        Never without a bound: nats-server reserves it, and refuses to make a stream that does not fit the disk.
    max_age
        Seconds after which a message is dropped.
    retention
        ``limits`` keeps what was read, so it can be replayed; ``workqueue`` drops what was acknowledged.
    storage
        ``file`` survives a restart of the server, ``memory`` does not; then the stream itself is gone too.
    discard
        ``new`` lets a full stream refuse, so that the publisher learns it; ``old`` drops the oldest.
    per_subject
        Messages kept of each subject; -1 is no bound.
    """

    name: str
    subjects: Sequence[str]
    max_bytes: int
    max_age: float
    retention: Literal["limits", "workqueue"] = "limits"
    storage: Literal["file", "memory"] = "file"
    discard: Literal["new", "old"] = "new"
    per_subject: int = -1

    @property
    def duplicate_window(self) -> float:
        """Seconds for which the server remembers an id, at 0.2 kB each.

        10 min: longer than a relay or a bridge takes to come back after a crash, when it sends again what it does not
        know to be stored. The server refuses a window longer than the age.
        """
        return min(600.0, self.max_age)

    def config(self) -> dict[str, Any]:
        """Return the part of the configuration that is declared, in the words of JetStream's API."""
        return {
            "name": self.name,
            "subjects": list(self.subjects),
            "retention": self.retention,
            "storage": self.storage,
            "discard": self.discard,
            "max_bytes": self.max_bytes,
            "max_age": _nanoseconds(self.max_age),
            "max_msgs_per_subject": self.per_subject,
            "duplicate_window": _nanoseconds(self.duplicate_window),
            # Whoever may ask for a message by number chooses the subject that the server answers on, and could so
            # let the server write for him where he may not. Nobody here needs it.
            "allow_direct": False,
        }


@dataclass(frozen=True, kw_only=True)
class Bucket:
    """A declared key-value bucket: the last value of each key.

    Attributes
    ----------
    name
        Lower case.
    max_bytes
        Of all keys and values; a full bucket refuses.
    """

    name: str
    max_bytes: int

    @property
    def stream(self) -> str:
        """The stream that a bucket is for the server."""
        return f"KV_{self.name}"

    @property
    def subject(self) -> str:
        """Subject of all keys."""
        return f"$KV.{self.name}.>"

    def config(self) -> dict[str, Any]:
        """Return the configuration in the words of JetStream's API; other clients know it as a bucket."""
        return {
            "name": self.stream,
            "subjects": [self.subject],
            "retention": "limits",
            "storage": "file",
            "discard": "new",
            "max_bytes": self.max_bytes,
            "max_age": 0,
            "max_msgs_per_subject": 1,
            "duplicate_window": _nanoseconds(120),
            "allow_direct": False,
            "allow_rollup_hdrs": True,
            "allow_msg_ttl": True,
            "deny_delete": True,
        }


@dataclass(frozen=True, kw_only=True)
class Consumer:
    """A durable pull consumer: its place in a stream is kept by the server, and shared by all replicas of a service.

    Attributes
    ----------
    stream
        Name of the stream.
    durable
        Name of the consumer; that of the service which reads.
    filter_subject
        Reads only what matches; empty reads all.
    batch
        Most messages handed over at once. 500 rows make a statement of some milliseconds, and more is not faster.
    ack_wait
        Seconds after which the server delivers again what was not acknowledged: a replica died. A handler that is
        slower tells the server meanwhile.
    max_ack_pending
        Messages on their way or waiting for another try. Four batches: two in the hands of each of two replicas.
    tries
        Deliveries before a message that cannot be processed is parked. With 2, 4, 8 and 16 s between them, 5 take
        half a minute.
    """

    stream: str
    durable: str
    filter_subject: str = ""
    batch: int = 500
    ack_wait: float = 30.0
    max_ack_pending: int = 2000
    tries: int = 5

    def config(self) -> dict[str, Any]:
        """Return the configuration in the words of JetStream's API."""
        return {
            "durable_name": self.durable,
            "name": self.durable,
            "filter_subject": self.filter_subject,
            "ack_policy": "explicit",
            "ack_wait": _nanoseconds(self.ack_wait),
            "max_ack_pending": self.max_ack_pending,
            # The server would silently skip what has used up its deliveries; we park it.
            "max_deliver": -1,
        }


AGENTS = Stream(
    name="AGENTS",
    subjects=("agents.state.>",),
    # 1 kB a change: a quarter of a million changes. 200 agents that all change every hour make 34 MB in a week.
    max_bytes=256 * MB,
    max_age=7 * DAY,
)
"""Changes of agents, from the registry's outbox; can be replayed for a week."""

HEARTBEATS = Stream(
    name="HEARTBEATS",
    subjects=("agents.in.heartbeat.>",),
    storage="memory",
    discard="old",
    # Only the newest beat of an agent says something.
    per_subject=1,
    # 60,000 agents at 1 kB. A program that makes up names pushes the oldest out, and gets no further.
    max_bytes=64 * MB,
    # As long as an agent counts as alive without a beat (DECISIONS 9); an older one must not revive anybody.
    max_age=180.0,
)
"""Heartbeats that did not come by HTTP."""

LOGS = Stream(
    name="LOGS",
    # What programs send, and what the log service has accepted while PostgreSQL was away.
    subjects=("logs.in.>", "logs.accepted"),
    retention="workqueue",
    # A quarter of an hour of 3,000 records a second at 0.4 kB; beyond it the sender learns that nothing takes more.
    max_bytes=1024 * MB,
    # What was accepted must not go because PostgreSQL is away for long.
    max_age=30 * DAY,
)
"""Log records on their way to PostgreSQL."""

MESSAGES = Stream(
    name="MESSAGES",
    # Not `messages.<ns>.<type>`: in a namespace called "in", programs could put there what nobody has looked at.
    subjects=("messages.accepted.*.*",),
    # At 1 kB a million: an hour and a half of 200 a second. Its owner drops what everybody has read before it is full.
    max_bytes=1024 * MB,
    max_age=7 * DAY,
)
"""Workflow messages, each once and in order of arrival; can be replayed."""

OUTBOUND = Stream(
    name="OUTBOUND",
    subjects=("outbound.*",),
    retention="workqueue",
    max_bytes=128 * MB,
    # What was accepted must not go because the broker is away for a weekend.
    max_age=7 * DAY,
)
"""Messages on their way to the broker."""

QUEUES = Stream(
    name="QUEUES",
    # Three tokens: programs may publish `queues.in.>`, and that is no queue.
    subjects=("queues.kept.*.*",),
    retention="workqueue",
    # At 1 kB half a million commands and results; beyond it the sender learns that nothing takes more.
    max_bytes=512 * MB,
    # Long enough for an agent that is started again after the holidays.
    max_age=30 * DAY,
)
"""Messages of the STOMP door's queues, until somebody has acknowledged them."""

DURABLES = Stream(
    name="DURABLES",
    subjects=("durables.*",),
    retention="workqueue",
    # A subscription that nobody comes back to must not stop anything: it loses its oldest.
    discard="old",
    per_subject=100_000,
    max_bytes=256 * MB,
    max_age=7 * DAY,
)
"""What durable subscriptions of the STOMP door's topics have missed."""

INBOUND = Stream(
    name="INBOUND",
    subjects=("messages.in.>",),
    retention="workqueue",
    max_bytes=128 * MB,
    max_age=7 * DAY,
)
"""Messages that programs sent by NATS, not looked at yet."""
PCS_KINDS = (
    "category",
    "tag",
    "params",
    "physics-config",
    "dataset",
    "config",
    "campaign",
    "task",
    "queue",
    "endpoint",
)
"""What changes of physics configurations can be about."""

PCS = Stream(
    name="PCS",
    # Each kind by its name: programs may publish `pcs.in.>`, and that is no event.
    subjects=tuple(f"pcs.{kind}.*" for kind in PCS_KINDS),
    # A tag may have a megabyte: a stream that refused would hold up all further changes for a month.
    discard="old",
    # 2 kB a change: ten thousand of them, more than a campaign has.
    max_bytes=64 * MB,
    max_age=30 * DAY,
)
"""Changes of physics configurations, from the outbox of their service."""

DLQ = Stream(
    name="DLQ",
    subjects=("dlq.>",),
    # A flood of bad messages must push out the oldest: one that cannot be parked would block what comes after it.
    discard="old",
    # People look at it: a month is long enough to be back from holiday, and 256 MB are more than they will read.
    max_bytes=256 * MB,
    max_age=30 * DAY,
)
"""What could not be processed, with the reason."""

AUDIT = Stream(
    name="AUDIT",
    # One token: what programs may publish, `audit.in.>`, is no record.
    subjects=("audit.*",),
    # 0.5 kB a record: a hundred thousand of them, until the registry has them in its table.
    max_bytes=64 * MB,
    max_age=7 * DAY,
)
"""Who did what, from every service."""

KEYS = Bucket(name="keys", max_bytes=1 * MB)
"""Public keys by ``kid``: 0.3 kB each, a handful of them."""

TOKENS = Bucket(name="tokens", max_bytes=16 * MB)
"""Opaque tokens by SHA-256: 50,000 at 0.3 kB."""

RUNS = Stream(
    name="RUNS",
    subjects=("runs.*", "files.*", "workflows.*"),
    # 1 kB an event: half a million of them, which is a day of runs with 15 slices a time frame file.
    max_bytes=512 * MB,
    max_age=7 * DAY,
)
"""Changes of runs, files and workflows, from the run service's outbox; can be replayed for a week."""

REVOKED = Bucket(name="revoked", max_bytes=16 * MB)
"""Revoked tokens by ``jti``, until they expire: 100,000 at 0.15 kB."""

SUBSCRIPTIONS = Bucket(name="subscriptions", max_bytes=4 * MB)
"""Durable subscriptions of the STOMP door's topics, by a hash of client and name: 0.5 kB each."""

LEASES = Bucket(name="leases", max_bytes=1 * MB)
"""Who does what only one at a time may do: a key for each such task, which expires."""


async def ensure(session: Session, declared: Stream | Bucket) -> None:
    """Create a stream or bucket, or bring the one that exists to what is declared.

    What is not declared here, such as the number of replicas, stays as it is.

    Raises
    ------
    StreamDiffers
        It exists in a shape that the server cannot change, or there is no room for it.
    BusAway, StreamRefused
        As `Session.request`.
    """
    wanted = declared.config()
    name = wanted["name"]
    try:
        found = await _find(session, name)
        if found is None:
            await session.api(f"STREAM.CREATE.{name}", wanted)
            return
        changed = [key for key, value in wanted.items() if (found.get(key) or None) != (value or None)]
        fixed = [f"{key} is {found[key]} instead of {wanted[key]}" for key in _FIXED if key in changed]
        if fixed:
            raise StreamDiffers(
                f"stream {name} exists, but {' and '.join(fixed)}, which cannot be changed: "
                f"save what is in it, delete it, and migrate again"
            )
        if changed:
            await session.api(f"STREAM.UPDATE.{name}", {**found, **wanted})
    except ApiError as exc:
        raise StreamDiffers(f"stream {name}: {exc}") from exc


async def _find(session: Session, name: str) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = (await session.api(f"STREAM.INFO.{name}"))["config"]
    except ApiError as exc:
        if exc.err_code != _NO_STREAM:
            raise
        return None
    return found


async def ensure_consumer(session: Session, stream: str, config: dict[str, Any]) -> dict[str, Any]:
    """Create a consumer, or bring the one that exists to this configuration.

    Returns
    -------
    dict
        What the server says about it.

    Raises
    ------
    ApiError
        The stream does not exist, or the configuration cannot be had.
    BusAway, StreamRefused
        As `Session.request`.
    """
    # The filter stands in the subject too, so permissions can name it.
    subject = f"CONSUMER.CREATE.{stream}.{config['name']}"
    if config.get("filter_subject"):
        subject += f".{config['filter_subject']}"
    return await session.api(subject, {"stream_name": stream, "config": config})


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1_000_000_000)
