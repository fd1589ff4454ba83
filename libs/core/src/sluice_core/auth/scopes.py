"""Rights, and the roles that bundle them."""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Self

__all__ = ["ROLES", "Scope", "resolve"]


class Scope(StrEnum):
    """The rights that services ask for; a read without one needs any identity, or none where reads are open."""

    description: str
    """What its holder may do, a sentence for people."""

    def __new__(cls, value: str, description: str = "") -> Self:
        """Make a member of its value and its description."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.description = description
        return member

    ADMIN = "admin", "Everything."
    AGENTS_WRITE = "agents:write", "Write agents, their heartbeats, and workers."
    IDS_WRITE = "ids:write", "Take numbers from the counters."
    NAMESPACES_WRITE = "namespaces:write", "Make and change namespaces."
    LOGS_READ = "logs:read", "Follow logs as they come; listing them is open unless reads are closed."
    LOGS_WRITE = "logs:write", "Send logs where the site does not take anonymous ones."
    LOGS_ADMIN = "logs:admin", "Change and delete log records."
    STREAM_READ = "stream:read", "Follow messages as they come."
    STREAM_WRITE = "stream:write", "Send messages; register subscribers."
    RUNS_WRITE = "runs:write", "Write runs, files, slices, run states, workflows and their executions."
    PCS_WRITE = "pcs:write", "Write drafts of physics configurations, one's own."
    PCS_LOCK = "pcs:lock", "Lock one's own physics configurations."
    PCS_ADMIN = (
        "pcs:admin",
        "Change others' drafts of physics configurations; import campaigns; keep queues.",
    )
    DQM_WRITE = "dqm:write", "Send data-quality files."
    DLQ_READ = "dlq:read", "Look at dead letters."
    DLQ_ADMIN = "dlq:admin", "Replay and drop dead letters."
    TOKENS_ADMIN = "tokens:admin", "Manage users, and the tokens of others."


_READER = frozenset({Scope.LOGS_READ, Scope.STREAM_READ})
# All of an agent's HTTP life (swf-clients.md section 5), and nothing that changes what others have said.
_AGENT = _READER | {
    Scope.AGENTS_WRITE,
    Scope.IDS_WRITE,
    Scope.NAMESPACES_WRITE,
    Scope.LOGS_WRITE,
    Scope.STREAM_WRITE,
    Scope.RUNS_WRITE,
}

ROLES: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "admin": frozenset({Scope.ADMIN}),
        "operator": _AGENT | {Scope.DLQ_READ, Scope.DLQ_ADMIN},
        "agent": _AGENT,
        "reader": _READER,
        "pcs": _READER | {Scope.PCS_WRITE, Scope.PCS_LOCK},
        "dqm": frozenset({Scope.DQM_WRITE}),
    }
)
"""Role -> its scopes."""


def resolve(roles: Iterable[str], scopes: Iterable[str]) -> frozenset[str]:
    """All rights of `roles` and `scopes` together.

    A role that this process does not know grants nothing: a newer registry may name one that an older service never
    heard of.
    """
    return frozenset(scopes).union(*(ROLES.get(role, ()) for role in roles))
