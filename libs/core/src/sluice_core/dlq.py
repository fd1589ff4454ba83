"""Dead letters: what could not be processed goes to the stream ``DLQ`` with its reason.

A parked message keeps its data and headers, so it can be looked at and sent to its subject again.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sluice_core import subjects

if TYPE_CHECKING:
    from sluice_core.bus import Bus, Message

__all__ = ["REASON", "SEQUENCE", "STREAM", "SUBJECT", "TIME", "TRUNCATED", "bury", "park"]

REASON = "Sluice-Dlq-Reason"
SUBJECT = "Sluice-Dlq-Subject"
TIME = "Sluice-Dlq-Time"
STREAM = "Sluice-Dlq-Stream"
SEQUENCE = "Sluice-Dlq-Sequence"
TRUNCATED = "Sluice-Dlq-Truncated"
"""Size of the data in bytes, when only its beginning could be kept."""

# What NATS gives a meaning to (ids, expectations, lifetimes) held for the first sending only.
_KEPT = re.compile(r"(?!Nats-|Sluice-Dlq-)[A-Za-z0-9_-]{1,100}", re.IGNORECASE)
_REASON_LENGTH = 500
# Bytes for the sender's headers, and for all that we add to a message which is already as large as may be.
_KEPT_BYTES = 8 * 1024
_ADDED_BYTES = 16 * 1024
# A server takes 4096 bytes of subject, reply and sizes. The whole subject stands in the header.
_SUBJECT_LENGTH = 3500


async def park(bus: "Bus", message: "Message", reason: str) -> None:
    """Put a message of a stream into the ``DLQ`` stream, and have it delivered no more.

    Parameters
    ----------
    reason
        Why it cannot be processed; must not quote the data, which may hold secrets.

    Raises
    ------
    BusAway, StreamRefused
        It could not be stored, and stays where it is.
    """
    await bury(
        bus,
        message.subject,
        message.data,
        # A stream in memory counts from 1 again after a restart of the server; the time tells its messages apart.
        msg_id=f"{message.stream}-{message.sequence}-{message.at:%Y%m%dT%H%M%S.%f}",
        headers={**_kept(message.headers), STREAM: message.stream, SEQUENCE: str(message.sequence)},
        reason=reason,
    )
    await message.term()


async def bury(bus: "Bus", subject: str, data: bytes, *, msg_id: str, headers: Mapping[str, str], reason: str) -> None:
    """Store a message in the ``DLQ`` stream that no stream takes under its own subject.

    Parameters
    ----------
    subject
        Where it should have gone.
    msg_id
        Names it; parked twice under one id, it is stored once.

    Raises
    ------
    BusAway, StreamRefused
        As `Bus.publish_stored`.
    """
    headers = {
        **headers,
        REASON: " ".join(reason.encode(errors="replace").decode().split())[:_REASON_LENGTH] or "unknown",
        SUBJECT: subject,
        TIME: datetime.now(UTC).isoformat(),
    }
    most = max(0, bus.max_payload - _ADDED_BYTES)
    if len(data) > most:
        headers[TRUNCATED] = str(len(data))
        data = data[:most]
    await bus.publish_stored(subjects.dlq(subject)[:_SUBJECT_LENGTH].rstrip("."), data, msg_id=msg_id, headers=headers)


def _kept(headers: Mapping[str, str]) -> dict[str, str]:
    kept: dict[str, str] = {}
    left = _KEPT_BYTES
    for name, value in headers.items():
        left -= len(name) + len(value.encode()) + 4
        if left >= 0 and _KEPT.fullmatch(name):
            kept[name] = value
    return kept
