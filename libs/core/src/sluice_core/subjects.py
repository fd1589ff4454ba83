"""The only place where outside names become subject tokens, and back.

A subject is a list of tokens with dots between them, and ``*`` and ``>`` are wildcards; so a name with a dot, a space
or a star must not get into one as it is. Ordinary names stay readable::

    agents.state._.daq-sim_1        an agent without namespace
    agents.state.my=20test.a=2Eb    "my test", "a.b"
"""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import NamedTuple

__all__ = [
    "ABSENT",
    "OPERATIONS",
    "HeartbeatIn",
    "agents_heartbeat",
    "agents_state",
    "audit",
    "dlq",
    "durable",
    "from_token",
    "heartbeat_in",
    "inbound",
    "logs_in",
    "messages_accepted",
    "messages_in",
    "outbound",
    "outbound_to",
    "pcs",
    "queued",
    "queued_for",
    "token",
]

ABSENT = "_"
"""Token of a name that is absent."""

HEARTBEAT_IN = "agents.in.heartbeat"
LOGS_IN = "logs.in"
MESSAGES_IN = "messages.in"
OUTBOUND = "outbound"
OPERATIONS = "/queue/epicprod.ops"
"""Destination of the broker where the operations agent of a production listens."""
QUEUES = "queues.kept"
DURABLES = "durables"

_EMPTY = "="
_ESCAPED = re.compile(r"[^A-Za-z0-9_-]")
_PLAIN = re.compile(r"(?:[A-Za-z0-9_-]|=[0-9A-F]{2})*")
_BASE64 = "=="


def token(text: str | None) -> str:
    """Turn any text into one subject token.

    ASCII letters, digits, ``-`` and ``_`` stand for themselves, each other byte of the UTF-8 text becomes ``=XX``. A
    text where that more than doubles the length becomes ``==`` and URL-safe base64, since a server takes no more than
    4096 bytes of subject. Different texts have different tokens, and case is kept.

    Parameters
    ----------
    text
        Any text, also an empty one. None is an absent name, whose token is ``_``; the text ``_`` is ``=5F``.

    Returns
    -------
    str
        Not empty; only ``A-Z a-z 0-9 _ - =``, so it is also a part of a valid key of a KV bucket.
    """
    if text is None:
        return ABSENT
    if text == ABSENT:
        return "=5F"
    if not text:
        return _EMPTY
    if not _ESCAPED.search(text):
        return text
    # JSON can carry half of a surrogate pair; it must not stop anything here.
    raw = text.encode("utf-8", "surrogatepass")
    plain = "".join(chr(byte) if _is_plain(byte) else f"={byte:02X}" for byte in raw)
    if len(plain) <= 2 * len(raw):
        return plain
    return _BASE64 + urlsafe_b64encode(raw).decode().rstrip("=")


def from_token(encoded: str) -> str | None:
    """Turn a token back into the text that `token` got.

    Raises
    ------
    ValueError
        When `token` never makes this one. Programs make tokens themselves, and two tokens must not mean one name.
    """
    if encoded == ABSENT:
        return None
    try:
        text = _decode(encoded)
    except ValueError as exc:
        raise ValueError(f"not a token: {encoded!r}") from exc
    if token(text) != encoded:
        raise ValueError(f"not a token: {encoded!r}")
    return text


def agents_state(namespace: str | None, name: str) -> str:
    """Subject of a changed agent; an empty namespace is an absent one."""
    return f"agents.state.{token(namespace or None)}.{token(name)}"


def agents_heartbeat(namespace: str | None, name: str) -> str:
    """Subject of an accepted heartbeat; an empty namespace is an absent one."""
    return f"agents.heartbeat.{token(namespace or None)}.{token(name)}"


def audit(service: str) -> str:
    """Subject of the audit records of a service."""
    return f"audit.{token(service)}"


def pcs(kind: str, verb: str) -> str:
    """Subject of a change of physics configurations: ``pcs.tag.locked``."""
    return f"pcs.{token(kind)}.{token(verb)}"


def dlq(subject: str) -> str:
    """Subject under which a message that was sent to ``subject`` is parked."""
    return f"dlq.{subject}"


class HeartbeatIn(NamedTuple):
    """Whose heartbeat a subject ``agents.in.heartbeat.<namespace>.<name>`` announces."""

    namespace: str | None
    name: str

    @property
    def subject(self) -> str:
        """The subject to publish on."""
        return f"{HEARTBEAT_IN}.{token(self.namespace or None)}.{token(self.name)}"


def heartbeat_in(subject: str) -> HeartbeatIn:
    """Read whose heartbeat comes on a subject.

    The name in a subject is the sender's word, never a proof of identity.

    Raises
    ------
    ValueError
        When it is not a subject that `HeartbeatIn.subject` makes.
    """
    parts = subject.removeprefix(f"{HEARTBEAT_IN}.").split(".")
    if not subject.startswith(f"{HEARTBEAT_IN}.") or len(parts) != 2:
        raise ValueError(f"not {HEARTBEAT_IN}.<namespace>.<name>: {subject!r}")
    namespace, name = map(from_token, parts)
    if not name or namespace == "":
        raise ValueError(f"no name, or an empty namespace instead of {ABSENT}: {subject!r}")
    return HeartbeatIn(namespace, name)


def logs_in(subject: str) -> tuple[str, str]:
    """Read whose log records come on a subject ``logs.in.<app>.<instance>``: names of the app and of the instance.

    Raises
    ------
    ValueError
        When it is not such a subject.
    """
    parts = subject.removeprefix(f"{LOGS_IN}.").split(".")
    if not subject.startswith(f"{LOGS_IN}.") or len(parts) != 2:
        raise ValueError(f"not {LOGS_IN}.<app>.<instance>: {subject!r}")
    app, instance = map(from_token, parts)
    if not app or not instance:
        raise ValueError(f"no name of an app or of an instance: {subject!r}")
    return app, instance


def messages_accepted(namespace: str | None, msg_type: str) -> str:
    """Subject of an accepted workflow message; an empty namespace is an absent one."""
    return f"messages.accepted.{token(namespace or None)}.{token(msg_type)}"


def inbound(destination: str) -> str:
    """Subject of a message that is not looked at yet, for a destination such as ``/topic/epictopic``."""
    return f"{MESSAGES_IN}.{token(destination)}"


def messages_in(subject: str) -> str:
    """Read which destination a message on a subject ``messages.in.<destination>`` is for.

    Returns
    -------
    str
        As the sender wrote it, such as ``/topic/epictopic``, or ``epictopic`` alone.

    Raises
    ------
    ValueError
        When it is not such a subject.
    """
    return _only_token(MESSAGES_IN, subject)


def outbound(destination: str) -> str:
    """Subject of a message for a destination of the broker, such as ``/topic/epictopic``."""
    return f"{OUTBOUND}.{token(destination)}"


def outbound_to(subject: str) -> str:
    """Read which destination of the broker a message on a subject ``outbound.<destination>`` is for.

    Raises
    ------
    ValueError
        When it is not such a subject.
    """
    return _only_token(OUTBOUND, subject)


def queued(queue: str, namespace: str | None = None) -> str:
    """Subject of a message in a queue such as ``/queue/x``, for those of one namespace alone, or for all."""
    return f"{QUEUES}.{token(queue)}.{token(namespace or None)}"


def queued_for(subject: str) -> tuple[str, str | None]:
    """Read which queue, and which namespace, a message on a subject ``queues.kept.<queue>.<namespace>`` is for.

    Raises
    ------
    ValueError
        When it is not such a subject.
    """
    parts = subject.removeprefix(f"{QUEUES}.").split(".")
    if not subject.startswith(f"{QUEUES}.") or len(parts) != 2:
        raise ValueError(f"not {QUEUES}.<queue>.<namespace>: {subject!r}")
    queue, namespace = map(from_token, parts)
    if not queue:
        raise ValueError(f"no name of a queue: {subject!r}")
    return queue, namespace


def durable(key: str) -> str:
    """Subject of what waits for the durable subscription of this key."""
    return f"{DURABLES}.{token(key)}"


def _only_token(prefix: str, subject: str) -> str:
    name = from_token(subject.removeprefix(f"{prefix}.")) if subject.startswith(f"{prefix}.") else None
    if not name:
        raise ValueError(f"not {prefix}.<destination>: {subject!r}")
    return name


def _is_plain(byte: int) -> bool:
    return not _ESCAPED.match(chr(byte))


def _decode(encoded: str) -> str:
    if encoded == _EMPTY:
        return ""
    if encoded.startswith(_BASE64):
        padding = "=" * (-(len(encoded) - len(_BASE64)) % 4)
        raw = urlsafe_b64decode(encoded.removeprefix(_BASE64) + padding)
    elif _PLAIN.fullmatch(encoded):
        raw = re.sub(rb"=(..)", lambda match: bytes([int(match[1], 16)]), encoded.encode())
    else:
        raise ValueError("characters that no token has")
    return raw.decode("utf-8", "surrogatepass")
