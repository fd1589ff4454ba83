"""Heartbeats of agents without HTTP or from a broker (contract 7.3; decision 9), and audit records of all services."""

from collections.abc import Mapping, Sequence
from datetime import tzinfo
from typing import Any

import msgspec

from sluice_core import audit, subjects
from sluice_core.bus import Message, Poison, Rejected
from sluice_core.rest import Invalid
from sluice_registry.service.audit import Audit, row
from sluice_registry.service.heartbeats import Beat, Heartbeats, read_beat

__all__ = ["AuditConsumer", "HeartbeatConsumer", "decode"]

# How an agent begins that only a broker has heard of.
NEW_FROM_BROKER = {"agent_type": "Unknown", "status": "UNKNOWN"}


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
    except (ValueError, RecursionError) as exc:
        raise Poison(str(exc)) from None
    if not isinstance(data, dict):
        raise Poison("a heartbeat is a JSON object")
    of_broker = "agent_name" in data
    said: Mapping[str, Any] = _of_broker(data) if of_broker else data
    named = {"namespace": whose.namespace} if whose.namespace else {}
    try:
        beat = read_beat({**said, **named, "instance_name": whose.name}, zone)
    except Invalid as exc:
        raise Poison(f"heartbeat of {whose.name}: {exc.errors}") from None
    return msgspec.structs.replace(beat, new=NEW_FROM_BROKER) if of_broker else beat


def _of_broker(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """Translate a broker heartbeat: an empty status changes nothing, and the agent takes part in workflows again."""
    said = {"workflow_enabled": True}
    return {**said, "status": data["status"]} if data.get("status") else said


class HeartbeatConsumer:
    """Door from the bus; a batch is one transaction."""

    def __init__(self, heartbeats: Heartbeats, zone: tzinfo) -> None:
        self._heartbeats = heartbeats
        self._zone = zone

    async def handle(self, batch: Sequence[Message]) -> list[Rejected]:
        """Store a batch; returns after the commit.

        Returns
        -------
        list
            What is no heartbeat.
        """
        beats: list[Beat] = []
        rejected: list[Rejected] = []
        for message in batch:
            try:
                beats.append(decode(message.subject, message.data, self._zone))
            except Poison as exc:
                rejected.append((message, str(exc)))
        await self._heartbeats.record(beats)
        return rejected


_EVENTS = msgspec.json.Decoder(list[audit.Event])


class AuditConsumer:
    """Door from the stream of audit records; a batch is one transaction."""

    def __init__(self, records: Audit) -> None:
        self._records = records

    async def handle(self, batch: Sequence[Message]) -> list[Rejected]:
        """Store a batch; returns after the commit.

        Returns
        -------
        list
            What holds no audit records.
        """
        rows: list[dict[str, Any]] = []
        rejected: list[Rejected] = []
        for message in batch:
            try:
                rows += _rows(message)
            except (ValueError, RecursionError):
                # Without the decoder's words, which may quote what was sent.
                rejected.append((message, "no audit records"))
        await self._records.record(rows)
        return rejected


def _rows(message: Message) -> list[dict[str, Any]]:
    # NATS lets nobody else publish on a service's subject; what a record said of itself would prove nothing.
    service = subjects.from_token(message.subject.removeprefix("audit.")) or ""
    return [row(event, service) for event in _EVENTS.decode(message.data)]
