"""Who may do what on NATS: one user a service, one for all programs, one for administrators.

What is behind the choices, each tried against nats-server 2.15:

- **Programs live in an account of their own.** A server answers on the reply subject of a message, and does not check
  whether the sender may publish there. In one account, a program could so have the answer to a heartbeat stored in the
  bucket of revoked tokens. From another account only what is exported can be reached, and replies are made by the
  server.
- **Only the registry may make streams.** Whoever may make or change one can have the server republish from it to any
  subject, and so write public keys without the right to.
- **Nobody may ask for single messages** (``DIRECT.GET``, ``STREAM.MSG.GET``): the server would write a stored message
  of the asker's choice to a reply subject of his choice.
- **Each user has an inbox prefix of its own**, or one could read the answers to another.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from sluice_core.subjects import OPERATIONS, audit, outbound, token

from .streams import (
    AGENTS,
    AUDIT,
    DLQ,
    DURABLES,
    HEARTBEATS,
    INBOUND,
    KEYS,
    LEASES,
    LOGS,
    MESSAGES,
    OUTBOUND,
    PCS,
    QUEUES,
    REVOKED,
    RUNS,
    SUBSCRIPTIONS,
    TOKENS,
    Bucket,
    Stream,
)

__all__ = ["ADMIN", "PROGRAMS", "SERVICES", "Grant", "authorization"]

ADMIN = "admin"
"""User for people and for making streams; may do everything in the account of the services."""

PROGRAMS = "programs"
"""User of all programs that are no service: may publish on ``*.in.>``, which is what services take from outside."""

INPUTS = "*.in.>"
BUCKETS = (KEYS, TOKENS, REVOKED)


@dataclass(frozen=True, kw_only=True)
class Grant:
    """What one service may do, beyond reading the buckets, parking dead letters and its audit records.

    Attributes
    ----------
    publish
        Subjects it may publish on.
    subscribe
        Subjects it may listen to outside of streams.
    consume
        Durable consumers it may make and read, by stream.
    follow
        Streams it may read from any place, with consumers of any name that keep no account of what was read.
    share
        Work-queue streams that it may work through with a consumer for each subject, and drop messages of.
    keep
        Streams and buckets it may make and change, and trim when they are its own; see the module's text before you
        add one to another service than the registry.
    write
        Buckets whose keys it may set and delete.
    """

    publish: Sequence[str] = ()
    subscribe: Sequence[str] = ()
    consume: Sequence[tuple[str, str]] = ()
    follow: Sequence[str] = ()
    share: Sequence[str] = ()
    keep: Sequence[Stream | Bucket] = ()
    write: Sequence[Bucket] = ()


SERVICES: Mapping[str, Grant] = {
    "registry": Grant(
        publish=("agents.state.>", "agents.heartbeat.>"),
        consume=((HEARTBEATS.name, "registry"), (AUDIT.name, "registry-audit")),
        keep=(
            AGENTS,
            HEARTBEATS,
            AUDIT,
            LOGS,
            MESSAGES,
            OUTBOUND,
            INBOUND,
            QUEUES,
            DURABLES,
            RUNS,
            PCS,
            DLQ,
            KEYS,
            TOKENS,
            REVOKED,
            LEASES,
            SUBSCRIPTIONS,
        ),
        write=BUCKETS,
    ),
    "logs": Grant(publish=("logs.accepted", "logs.tail.>"), subscribe=("logs.tail.>",), consume=((LOGS.name, "logs"),)),
    "pcs": Grant(publish=(*PCS.subjects, outbound(OPERATIONS))),
    "stream": Grant(
        # The inputs of the other services too: it sends them again what was parked. No records of other services:
        # the registry believes the subject.
        publish=(
            "messages.accepted.*.*",
            "outbound.*",
            "agents.in.heartbeat.>",
            "logs.in.>",
            "logs.accepted",
            *QUEUES.subjects,
            *DURABLES.subjects,
        ),
        # Which namespace an agent is of.
        subscribe=("agents.heartbeat.*.*",),
        consume=(
            (MESSAGES.name, "stream-recorder"),
            (OUTBOUND.name, "stream-bridge"),
            (INBOUND.name, "stream-inbound"),
            (DLQ.name, "stream-dlq"),
        ),
        follow=(MESSAGES.name, AGENTS.name, SUBSCRIPTIONS.stream),
        share=(QUEUES.name, DURABLES.name),
        write=(LEASES, SUBSCRIPTIONS),
    ),
    "runs": Grant(
        publish=("runs.*", "files.*", "workflows.*"), consume=((MESSAGES.name, "runs"), (AGENTS.name, "runs-agents"))
    ),
}
"""One line a service; a new service adds its own."""


def authorization(passwords: Mapping[str, str]) -> str:
    """Render the part of nats-server's configuration that says who may do what.

    Parameters
    ----------
    passwords
        User -> password, for those of `SERVICES`, `PROGRAMS` and `ADMIN` that shall exist.

    Returns
    -------
    str
        An ``accounts`` block; stands beside ``jetstream``, instead of an ``authorization`` block.

    Raises
    ------
    ValueError
        For a user that nobody knows, or a password that nats-server would take for the hash of one.
    """
    unknown = sorted(set(passwords) - {*SERVICES, PROGRAMS, ADMIN})
    if unknown:
        raise ValueError(f"no permissions are known for {', '.join(unknown)}")
    users = [_user(name, password, *_rights(name)) for name, password in passwords.items() if name != PROGRAMS]
    programs = [_user(PROGRAMS, passwords[PROGRAMS], [INPUTS], ["_INBOX.>"])] if PROGRAMS in passwords else []
    return "\n".join(
        [
            "accounts {",
            "  SLUICE {",
            "    jetstream: enabled",
            f"    users: [{_lines(users)}]",
            f"    exports: [{{ service: {_quoted(INPUTS)}, accounts: [PROGRAMS] }}]",
            "  }",
            "  PROGRAMS {",
            f"    users: [{_lines(programs)}]",
            f"    imports: [{{ service: {{ account: SLUICE, subject: {_quoted(INPUTS)} }} }}]",
            "  }",
            "}",
        ]
    )


def _rights(user: str) -> tuple[list[str], list[str]]:
    """Return what a user may publish on and subscribe to."""
    if user == ADMIN:
        return [">"], [">"]
    grant = SERVICES[user]
    publish = [*grant.publish, "dlq.>", audit(user), *_api(grant), *(f"$KV.{bucket.name}.>" for bucket in grant.write)]
    return publish, [f"_INBOX.{token(user)}.>", *grant.subscribe]


def _api(grant: Grant) -> Iterator[str]:
    """Yield the requests to JetStream that a service may make."""
    yield "$JS.API.INFO"
    yield "$JS.API.STREAM.INFO.*"
    for bucket in BUCKETS:
        yield f"$JS.API.CONSUMER.CREATE.{bucket.stream}.*.{bucket.subject}"
        yield f"$JS.API.CONSUMER.INFO.{bucket.stream}.*"
        yield f"$JS.API.CONSUMER.MSG.NEXT.{bucket.stream}.*"
    for stream, durable in grant.consume:
        yield f"$JS.API.CONSUMER.CREATE.{stream}.{durable}"
        yield f"$JS.API.CONSUMER.CREATE.{stream}.{durable}.>"
        yield f"$JS.API.CONSUMER.INFO.{stream}.{durable}"
        yield f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{durable}"
        yield f"$JS.ACK.{stream}.{durable}.>"
    for stream in grant.follow:
        yield f"$JS.API.CONSUMER.CREATE.{stream}.*"
        yield f"$JS.API.CONSUMER.CREATE.{stream}.*.>"
        yield f"$JS.API.CONSUMER.INFO.{stream}.*"
        yield f"$JS.API.CONSUMER.DELETE.{stream}.*"
        yield f"$JS.API.CONSUMER.MSG.NEXT.{stream}.*"
    for stream in grant.share:
        yield f"$JS.API.CONSUMER.CREATE.{stream}.*.>"
        yield f"$JS.API.CONSUMER.DELETE.{stream}.*"
        yield f"$JS.API.CONSUMER.MSG.NEXT.{stream}.*"
        yield f"$JS.API.STREAM.PURGE.{stream}"
        yield f"$JS.ACK.{stream}.>"
    for kept in grant.keep:
        name = kept.config()["name"]
        yield f"$JS.API.STREAM.CREATE.{name}"
        yield f"$JS.API.STREAM.UPDATE.{name}"
        yield f"$JS.API.STREAM.PURGE.{name}"
        yield f"$JS.API.CONSUMER.LIST.{name}"


def _user(name: str, password: str, publish: Sequence[str], subscribe: Sequence[str]) -> str:
    if password.startswith("$2"):
        raise ValueError(f"the password of {name} begins like a bcrypt hash, and nats-server would take it for one")
    return (
        f"{{ user: {_quoted(name)}, password: {_quoted(password)}, permissions: "
        f"{{ publish: [{', '.join(map(_quoted, publish))}], subscribe: [{', '.join(map(_quoted, subscribe))}] }} }}"
    )


def _lines(users: Sequence[str]) -> str:
    return "".join(f"\n      {user}" for user in users) + ("\n    " if users else "")


def _quoted(text: str) -> str:
    """Write a text so that it is one value, whatever is in it."""
    escaped = (f"\\x{ord(char):02X}" if ord(char) < 32 or char in '"\\' else char for char in text)
    return f'"{"".join(escaped)}"'
