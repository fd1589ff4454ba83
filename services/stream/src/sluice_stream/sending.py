"""Messages that somebody sends by HTTP: to the broker, or straight to those who listen where there is none."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import msgspec

from sluice_core import subjects
from sluice_core.bus import Bus
from sluice_stream.bridge.bridge import HEADERS
from sluice_stream.errors import NoBroker
from sluice_stream.intake import Intake, message_id
from sluice_stream.messages import ID, Message, classify

__all__ = ["Sender", "Sent"]


@dataclass(frozen=True)
class Sent:
    """An accepted message."""

    id: UUID
    destination: str


class Sender:
    """Takes messages for destinations.

    Parameters
    ----------
    bus, intake
        Where they go.
    followed
        Destinations whose messages are recorded.
    has_broker
        Whether a broker delivers, and hands back what goes to a followed destination.
    """

    def __init__(self, bus: Bus, intake: Intake, followed: Collection[str], *, has_broker: bool) -> None:
        self._bus = bus
        self._intake = intake
        self._followed = frozenset(followed)
        self._has_broker = has_broker

    async def send(
        self, destination: str, message: Any, headers: Mapping[str, str], *, request: tuple[str, str] | None = None
    ) -> Sent:
        """Accept a message; returns once it is stored.

        Parameters
        ----------
        message
            JSON object; to a followed destination a workflow message, or a heartbeat.
        headers
            What the broker shall hand on.
        request
            Names what is sent, such as a user and a key of his; sent again, it is the same message.

        Raises
        ------
        Malformed
            A followed destination takes no such message.
        NoBroker
            There is nobody to deliver it.
        BusAway, StreamRefused
            It is not known to be stored.
        """
        body = msgspec.json.encode(message)
        known = uuid4() if request is None else message_id("sent", *request)
        followed = destination in self._followed
        if followed:
            classify(body)
        if self._has_broker:
            # Not to those who listen too: they get it from the broker, in its order.
            carried = {ID: str(known), HEADERS: json.dumps(dict(headers))}
            await self._bus.publish_stored(subjects.outbound(destination), body, msg_id=str(known), headers=carried)
        elif followed:
            await self._intake.take(Message(known, destination, datetime.now(UTC), body))
        else:
            raise NoBroker(f"Only a broker delivers to {destination}, and none is configured.")
        return Sent(known, destination)
