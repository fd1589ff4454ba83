"""What comes in, from wherever: each body goes where it belongs, and is stored there before its sender is told."""

from collections.abc import Sequence
from uuid import UUID, uuid5

from sluice_core import dlq, subjects
from sluice_core.bus import INBOUND, Bus, BusError, Stored, StreamRefused
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
        (failure,) = await self.take_all([message])
        if failure is not None:
            raise failure

    async def take_all(self, messages: Sequence[Message]) -> list[BusError | None]:
        """Put many bodies where they belong, those of one subject in their order.

        Returns
        -------
        list
            For each what `take` would raise, or None when it is stored.
        """
        failures: list[BusError | None] = [None] * len(messages)
        good: list[tuple[int, str, Stored]] = []
        parked: list[tuple[int, str]] = []
        for at, message in enumerate(messages):
            try:
                good.append((at, *_stored(message)))
            except Malformed as exc:
                parked.append((at, str(exc)))
        results = await self._bus.publish_all([stored for _, _, stored in good])
        for (at, kind, _), result in zip(good, results, strict=True):
            if isinstance(result, StreamRefused) and result.permanent:
                parked.append((at, str(result)))
            elif isinstance(result, BusError):
                failures[at] = result
            else:
                self.counts["duplicate" if result.duplicate else kind] += 1
        for at, reason in parked:
            try:
                await self._park(messages[at], reason)
            except BusError as exc:
                failures[at] = exc
        return failures

    async def _park(self, message: Message, reason: str) -> None:
        # As if it had come by NATS: sent again, it comes in anew and keeps its id.
        subject, headers = subjects.inbound(message.destination), {**message.headers, dlq.STREAM: INBOUND.name}
        await dlq.bury(self._bus, subject, message.body, msg_id=str(message.id), headers=headers, reason=reason)
        self.counts["parked"] += 1


def _stored(message: Message) -> tuple[str, Stored]:
    """Return what a message is, and how it goes into its stream."""
    found = classify(message.body)
    if isinstance(found, Heartbeat):
        return "heartbeat", Stored(HeartbeatIn(found.namespace, found.name).subject, message.body, str(message.id))
    return "message", Stored(found.subject, message.body, str(message.id), message.headers)
