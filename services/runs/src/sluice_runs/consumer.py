"""Doors from the streams of messages (decision 15) and of agents (decision 19)."""

from collections.abc import Sequence
from datetime import tzinfo
from functools import partial

import msgspec

from sluice_core.bus import Message, Poison, Rejected
from sluice_core.database import Database
from sluice_runs.messages import Said, read
from sluice_runs.service.life import Lives
from sluice_runs.service.stale import Stale

__all__ = ["AgentConsumer", "MessageConsumer"]


class MessageConsumer:
    """Follows the messages about runs; a batch is one transaction."""

    def __init__(self, database: Database, lives: Lives, zone: tzinfo) -> None:
        self._database = database
        self._lives = lives
        self._zone = zone

    async def handle(self, batch: Sequence[Message]) -> list[Rejected]:
        """Follow a batch; returns after the commit.

        Returns
        -------
        list
            What cannot be understood, and results of slices that nobody has made.
        """
        found: list[tuple[Message, Said]] = []
        rejected: list[Rejected] = []
        for message in batch:
            try:
                said = read(message.headers, message.data, self._zone)
            except Poison as exc:
                rejected.append((message, str(exc)))
            else:
                if said is not None:
                    found.append((message, said))
        if found:
            work = partial(self._lives.follow, messages=[said for _, said in found])
            refused = await self._database.run(self._database.transact, work)
            rejected += [(message, refused[said.message_id]) for message, said in found if said.message_id in refused]
        return rejected


class _Agent(msgspec.Struct):
    instance_name: str
    status: str
    operational_state: str


class _Event(msgspec.Struct):
    type: str
    data: _Agent


_event = msgspec.json.Decoder(_Event).decode


class AgentConsumer:
    """Follows which agents live."""

    def __init__(self, database: Database, stale: Stale) -> None:
        self._database = database
        self._stale = stale

    async def handle(self, batch: Sequence[Message]) -> list[Rejected]:
        """Note what a batch says; returns after the commit.

        Returns
        -------
        list
            What is no event about an agent.
        """
        alive: dict[str, bool] = {}
        rejected: list[Rejected] = []
        for message in batch:
            try:
                event = _event(message.data)
            except (msgspec.MsgspecError, RecursionError):
                rejected.append((message, "no event about an agent"))
                continue
            agent = event.data
            gone = event.type == "agent.deleted" or "EXITED" in (agent.status, agent.operational_state)
            alive[agent.instance_name] = not gone
        await self._database.run(self._stale.agents, alive)
        return rejected
