"""What comes in, from wherever: each body goes where it belongs, and is stored there before its sender is told."""

from uuid import UUID, uuid5

from sluice_core import dlq, subjects
from sluice_core.bus import INBOUND, Bus, StreamRefused
from sluice_core.subjects import HeartbeatIn
from sluice_stream.messages import Heartbeat, Malformed, Message, classify

__all__ = ["SLUICE_ID", "Intake", "message_id"]

SLUICE_ID = "sluice-id"
"""Header of messages that we sent to a broker, so that they are known when they come back."""

_NAMESPACE = UUID("d5f7c5a0-6f0a-5d0e-9a3c-3f0b5a0f6f11")


def message_id(*parts: str) -> UUID:
    """Return the id of a message that has none of ours, from what names it; the same parts are the same message."""
    return uuid5(_NAMESPACE, "\n".join(parts).encode(errors="replace").decode())


class Intake:
    """The one way in.

    Parameters
    ----------
    bus
        Has the streams.

    Attributes
    ----------
    counts
        What came in: ``message``, ``heartbeat``, ``parked``; and ``duplicate``, what was there already.
    """

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self.counts = {"message": 0, "heartbeat": 0, "parked": 0, "duplicate": 0}

    async def take(self, message: Message) -> None:
        """Put a body, whatever is in it, where it belongs; returns once it is stored.

        Raises
        ------
        BusAway, StreamRefused
            It is not known to be stored; the same may be given again.
        """
        try:
            found = classify(message.body)
        except Malformed as exc:
            await self._park(message, str(exc))
            return
        if isinstance(found, Heartbeat):
            kind, subject, headers = "heartbeat", HeartbeatIn(found.namespace, found.name).subject, {}
        else:
            kind, subject, headers = "message", found.subject, message.headers
        try:
            ack = await self._bus.publish_stored(subject, message.body, msg_id=str(message.id), headers=headers)
        except StreamRefused as exc:
            if not exc.permanent:
                raise
            await self._park(message, str(exc))
        else:
            self.counts["duplicate" if ack.duplicate else kind] += 1

    async def _park(self, message: Message, reason: str) -> None:
        # As if it had come by NATS: sent again, it comes in anew and keeps its id.
        subject, headers = subjects.inbound(message.destination), {**message.headers, dlq.STREAM: INBOUND.name}
        await dlq.bury(self._bus, subject, message.body, msg_id=str(message.id), headers=headers, reason=reason)
        self.counts["parked"] += 1
