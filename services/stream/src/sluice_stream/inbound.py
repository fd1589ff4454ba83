"""Messages that programs send by NATS, on ``messages.in.<destination>``."""

from collections.abc import Sequence

from sluice_core import subjects
from sluice_core.bus import Message as Delivery
from sluice_core.bus import Rejected
from sluice_stream.intake import Intake, message_id
from sluice_stream.messages import Message, canonical

__all__ = ["Inbound"]


class Inbound:
    """Door from the bus for what nobody has looked at.

    Parameters
    ----------
    intake
        Where messages go.
    """

    def __init__(self, intake: Intake) -> None:
        self._intake = intake

    async def handle(self, batch: Sequence[Delivery]) -> list[Rejected]:
        """Take a batch in, in its order as far as nothing fails.

        Returns
        -------
        list
            What is for no destination.

        Raises
        ------
        BusAway, StreamRefused
            Not all of them are known to be stored.
        """
        rejected: list[Rejected] = []
        messages: list[Message] = []
        for delivery in batch:
            try:
                destination = canonical(subjects.messages_in(delivery.subject))
            except ValueError as exc:
                rejected.append((delivery, str(exc)))
                continue
            # Not by the id that the program gave: others may give the same. A stream made anew counts from 1 again.
            known = message_id("program", str(delivery.sequence), delivery.at.isoformat())
            messages.append(Message(known, destination, delivery.at, delivery.data))
        for failure in await self._intake.take_all(messages):
            if failure is not None:
                raise failure
        return rejected
