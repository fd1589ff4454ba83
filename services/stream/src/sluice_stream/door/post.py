"""A message on its way through the door, and how it waits in `QUEUES` and `DURABLES`.

There it has the headers of `sluice_stream.messages`, and its STOMP headers as those in `OUTBOUND` (`bridge.HEADERS`).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any
from urllib.parse import quote, unquote
from uuid import UUID

import msgspec

from sluice_core.bus import Message as Delivery
from sluice_core.bus import Stored
from sluice_stream.bridge.bridge import HEADERS
from sluice_stream.door.frames import encode_headers
from sluice_stream.messages import AT, DESTINATION, ID

__all__ = ["Post"]

_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_LONGEST = 15


class _Said(msgspec.Struct):
    msg_type: Any = None
    namespace: Any = None


_said = msgspec.json.Decoder(_Said).decode


@dataclass(frozen=True)
class Post:
    """One message.

    Attributes
    ----------
    headers
        That its sender gave it, for whoever gets it.
    at
        When it came to us, in UTC.
    """

    id: UUID
    destination: str
    headers: Mapping[str, str]
    body: bytes
    at: datetime

    @classmethod
    def of(cls, delivery: Delivery) -> "Post":
        """Read one of a stream.

        Raises
        ------
        ValueError
            It is none.
        """
        kept = delivery.headers
        try:
            headers = msgspec.json.decode(kept[HEADERS], type=dict[str, str])
            at = datetime.fromisoformat(kept[AT]).astimezone(UTC)
            return cls(UUID(kept[ID]), unquote(kept[DESTINATION]), headers, delivery.data, at)
        except KeyError as exc:
            raise ValueError(f"no header {exc.args[0]}") from None

    def stored(self, subject: str, msg_id: str) -> Stored:
        """Return how it goes into a stream."""
        kept = {
            ID: str(self.id),
            DESTINATION: quote(self.destination),
            AT: self.at.isoformat("T", "microseconds"),
            HEADERS: json.dumps(dict(self.headers)),
        }
        return Stored(subject, self.body, msg_id, kept)

    @cached_property
    def _said(self) -> _Said:
        try:
            return _said(self.body)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            return _Said()

    @property
    def msg_type(self) -> str | None:
        """What the body says of what it is."""
        said = self._said.msg_type
        return said if isinstance(said, str) else None

    @property
    def namespace(self) -> str | None:
        """Whom it is for, by its body, else by its header."""
        said = self._said.namespace
        return (said if isinstance(said, str) else None) or self.headers.get("namespace") or None

    @cached_property
    def properties(self) -> Mapping[str, str]:
        """What selectors look at: its headers, and the namespace that its body names."""
        namespace = self.namespace
        return self.headers if namespace is None else {"namespace": namespace, **self.headers}

    @cached_property
    def expires(self) -> int:
        """Milliseconds since 1970 after which nobody wants it; 0: never."""
        for name, begins in (("expires", 0), ("ttl", (self.at - _BEGINNING) // _MILLISECOND)):
            said = self.headers.get(name, "")
            if said.isascii() and said.isdecimal() and len(said) < _LONGEST and int(said):
                return begins + int(said)
        return 0

    @cached_property
    def _heads(self) -> dict[str, bytes]:
        return {}

    def frame(self, version: str, **own: str) -> bytes:
        """Return its MESSAGE for a client of this version; what all have in common is written once.

        Parameters
        ----------
        own
            Headers of this delivery.
        """
        common = self._heads.get(version)
        if common is None:
            known = {
                "destination": self.destination,
                "message-id": str(self.id),
                "timestamp": str((self.at - _BEGINNING) // _MILLISECOND),
            }
            known |= {"expires": str(self.expires)} if self.expires else {}
            common = self._heads[version] = encode_headers({**self.headers, **known}, version)
        return b"".join((b"MESSAGE\n", encode_headers(own, version), common, b"\n", self.body, b"\0\n"))
