"""Who may say and hear what on NATS: one user a service, and one for programs.

Whoever could write the bucket of public keys could make himself an admin, and whoever could publish where a service
speaks could lie in its name. So a user may do what stands in its line below, and nothing else.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from sluice_core.subjects import token

from .streams import AGENTS, DLQ, HEARTBEATS, KEYS, REVOKED, TOKENS, Bucket, Stream

__all__ = ["PROGRAMS", "USERS", "Rights", "authorization"]

PROGRAMS = "programs"
"""The user of everything that is no service of ours."""

_PASSWORD = re.compile(r"[!-~]{8,}")


@dataclass(frozen=True, kw_only=True)
class Rights:
    """What one user may do.

    Attributes
    ----------
    publishes
        Subjects it speaks on.
    keeps
        Streams and buckets it makes; it may write the buckets.
    reads
        Streams it has a durable consumer on.
    follows
        Buckets it watches.
    hears
        Subjects it listens to directly.
    """

    publishes: Sequence[str] = ()
    keeps: Sequence[Stream | Bucket] = ()
    reads: Sequence[Stream] = ()
    follows: Sequence[Bucket] = ()
    hears: Sequence[str] = ()

    def may_publish(self) -> Iterator[str]:
        """Give the subjects it may publish on, those of JetStream's API included."""
        yield from self.publishes
        if self.keeps or self.reads or self.follows:
            yield "$JS.API.INFO"
        for kept in self.keeps:
            name = kept.config()["name"]
            yield from (f"$JS.API.STREAM.{verb}.{name}" for verb in ("INFO", "CREATE", "UPDATE"))
            if isinstance(kept, Bucket):
                yield kept.subject
        for stream in self.reads:
            yield f"$JS.ACK.{stream.name}.>"
        for name in (*(stream.name for stream in self.reads), *(bucket.stream for bucket in self.follows)):
            yield from (f"$JS.API.CONSUMER.{verb}.{name}.>" for verb in ("INFO", "CREATE", "MSG.NEXT"))


IDENTITY = (KEYS, TOKENS, REVOKED)
"""Every service verifies tokens by itself; the registry alone says what is true."""

USERS: Mapping[str, Rights] = {
    "registry": Rights(
        publishes=("agents.state.>", "agents.heartbeat.>", "dlq.>"),
        keeps=(AGENTS, HEARTBEATS, DLQ, *IDENTITY),
        reads=(HEARTBEATS,),
        follows=IDENTITY,
    ),
    "logs": Rights(publishes=("dlq.>",), follows=IDENTITY),
    "stream": Rights(publishes=("dlq.>",), follows=IDENTITY),
    PROGRAMS: Rights(publishes=("*.in.>",)),
}
"""User -> its rights. A service that comes later gets its line here."""


def authorization(passwords: Mapping[str, str]) -> str:
    """Return the ``authorization`` block of a nats-server configuration.

    Parameters
    ----------
    passwords
        User -> password, printable ASCII of at least 8 characters; users that are left out cannot log in.

    Raises
    ------
    ValueError
        An unknown user, or a password that is too short or not printable.
    """
    users = []
    for name, password in passwords.items():
        rights = USERS.get(name)
        if rights is None:
            raise ValueError(f"no such NATS user: {name}")
        if not _PASSWORD.fullmatch(password):
            raise ValueError(f"the password of {name} is too short, or not printable ASCII")
        publish = json.dumps(sorted(set(rights.may_publish())))
        hears = json.dumps([f"_INBOX.{token(name)}.>", *rights.hears])
        users.append(
            f"    {{ user: {json.dumps(name)}, password: {json.dumps(password)}, permissions: {{\n"
            f"      publish: {{ allow: {publish} }}\n"
            f"      subscribe: {{ allow: {hears} }} }} }}\n"
        )
    return "authorization {\n  users: [\n" + "".join(users) + "  ]\n}\n"
