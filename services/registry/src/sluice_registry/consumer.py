"""Heartbeats of agents without HTTP, and those the bridge takes from a broker (contract 7.3; decision 9)."""

from collections.abc import Mapping, Sequence
from datetime import tzinfo
from typing import Any

import msgspec

from sluice_core import subjects
from sluice_core.bus import Message, Poison
from sluice_core.rest import Invalid
from sluice_registry.service.heartbeats import Beat, Heartbeats, read_beat

__all__ = ["HeartbeatConsumer", "decode"]


def decode(subject: str, body: bytes, zone: tzinfo) -> Beat:
    """Read a heartbeat from the bus.

    Parameters
    ----------
    subject
        ``agents.in.heartbeat.<namespace>.<name>``: whose it is, whatever the body says.
    body
        A heartbeat as by HTTP, or a broker's ``{"agent_name", "status"}``.

    Raises
    ------
    Poison
        No retry can mend it; the text says what is wrong.
    """
    try:
        whose = subjects.heartbeat_in(subject)
        data = msgspec.json.decode(body)
    except ValueError as exc:
        raise Poison(str(exc)) from None
    if not isinstance(data, dict):
        raise Poison("a heartbeat is a JSON object")
    said: Mapping[str, Any] = _of_broker(data) if "agent_name" in data else data
    named = {"namespace": whose.namespace} if whose.namespace else {}
    try:
        return read_beat({**said, **named, "instance_name": whose.name}, zone)
    except Invalid as exc:
        raise Poison(f"heartbeat of {whose.name}: {exc.errors}") from None


def _of_broker(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """Translate a broker heartbeat: an empty status changes nothing, and the agent takes part in workflows again."""
    said = {"workflow_enabled": True}
    return {**said, "status": data["status"]} if data.get("status") else said


class HeartbeatConsumer:
    """Door from the bus; a batch is one transaction."""

    def __init__(self, heartbeats: Heartbeats, zone: tzinfo) -> None:
        self._heartbeats = heartbeats
        self._zone = zone

    async def handle(self, batch: Sequence[Message]) -> None:
        """Store a batch; returns after the commit.

        Raises
        ------
        Poison
            One of them is no heartbeat.
        """
        beats = [decode(message.subject, message.data, self._zone) for message in batch]
        await self._heartbeats.announce(await self._heartbeats.record(beats))
