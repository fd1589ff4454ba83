"""The message control protocol: heartbeats, liveness and capabilities (contract 8, decision 10)."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from enum import IntEnum
from functools import partial
from typing import Any

import msgspec
import structlog
from sqlalchemy import Connection

from sluice_core.auth import Identity
from sluice_core.database import Database, DatabaseAway
from sluice_core.rest import ApiError, Choice, DateTime, FieldError, Invalid, Text, denied
from sluice_core.rest.validate import REQUIRED, mapping
from sluice_registry.events import AgentEvents
from sluice_registry.store.agents import AgentStore, Row

__all__ = [
    "CAPABILITIES",
    "COMMANDS",
    "HEARTBEAT",
    "LIVENESS",
    "REPORT_FIELDS",
    "Code",
    "MessageControl",
    "MessageRefused",
    "Report",
    "malformed",
    "read_report",
    "unknown_command",
]

# Silence after which an agent counts as dead.
SILENCE = timedelta(minutes=5)

HEARTBEAT, CAPABILITIES, LIVENESS = "heartbeat", "discover_capabilities", "get_agent_liveness"
COMMANDS = {
    CAPABILITIES: "Lists the commands of this server.",
    LIVENESS: "Tells of every agent whether it is alive or dead.",
    HEARTBEAT: "Takes the status of a registered agent, and when it was so; answered by HTTP only.",
}
"""Each command with what it does, for people."""

REPORT_FIELDS = (
    Text("name", max_length=255),
    DateTime("timestamp"),
    # An agent that ends says so by its other heartbeat: EXITED is no status here.
    Choice("status", ("UNKNOWN", "OK", "WARNING", "ERROR")),
)
BAD_TIMESTAMP = "Invalid timestamp format. Use ISO format."
# Not what failed: a text of PostgreSQL tells of its tables (contract 16.9).
UNEXPECTED = "An unexpected server error occurred: the log of the server has it."

log = structlog.get_logger(__name__)


class Code(IntEnum):
    """Why a message was refused."""

    MALFORMED = 4000
    NO_VERSION = 4001
    UNSUPPORTED_VERSION = 4002
    UNKNOWN_COMMAND = 4004
    INTERNAL = 5000


class MessageRefused(Exception):
    """A message that cannot be done; the text is for its sender."""

    def __init__(self, code: Code, text: str) -> None:
        super().__init__(text)
        self.code = code


def malformed(errors: Mapping[str, Any], code: Code = Code.MALFORMED) -> MessageRefused:
    """Return the refusal of a message by its bad fields, each with its messages (contract 2.6)."""
    return MessageRefused(code, f"Invalid request format: {msgspec.json.encode(errors).decode()}")


def unknown_command(command: str) -> MessageRefused:
    """Return the refusal of a command that is none of `COMMANDS`."""
    return MessageRefused(Code.UNKNOWN_COMMAND, f"Unknown command: {command}")


@dataclass(frozen=True)
class Report:
    """One heartbeat: whose, its status, and when it was so by the agent's own account."""

    name: str
    status: str
    at: datetime


def read_report(payload: Any, zone: tzinfo) -> Report:
    """Validate the payload of a heartbeat.

    Raises
    ------
    MessageRefused
        It is none.
    """
    try:
        data = mapping(payload)
    except Invalid as exc:
        raise malformed({"payload": exc.errors}) from None
    values: dict[str, Any] = {}
    errors: dict[str, list[str]] = {}
    for field in REPORT_FIELDS:
        raw = data.get(field.name)
        try:
            values[field.name] = field.parse(raw, zone)
        except FieldError as exc:
            badly_said = isinstance(field, DateTime) and raw is not None
            errors[field.name] = [BAD_TIMESTAMP] if badly_said else list(exc.args)
        if field.name not in data:
            errors[field.name] = [REQUIRED]
    if errors:
        raise malformed({"payload": errors})
    return Report(values["name"], values["status"], values["timestamp"])


class MessageControl:
    """Does the commands of the protocol, whichever door they came by."""

    def __init__(self, database: Database, events: AgentEvents, zone: tzinfo) -> None:
        self._database = database
        self._events = events
        self._zone = zone
        self._commands: Mapping[str, Callable[[Any, Identity], Awaitable[Mapping[str, str]]]] = {
            HEARTBEAT: self._heartbeat,
            CAPABILITIES: self._capabilities,
            LIVENESS: self._liveness,
        }

    async def run(self, command: str, payload: Any, caller: Identity) -> Mapping[str, str]:
        """Do a command.

        Parameters
        ----------
        caller
            Reports agents of his namespaces only.

        Returns
        -------
        Mapping
            Payload of the answer; nothing for a heartbeat.

        Raises
        ------
        MessageRefused
            Unknown command, malformed payload, unknown agent, or a failure of our own, which is logged.
        ApiError
            403: the agent is in another namespace.
        DatabaseAway
            It is not done; try again.
        """
        if command not in self._commands:
            raise unknown_command(command)
        try:
            return await self._commands[command](payload, caller)
        except (MessageRefused, ApiError, DatabaseAway):
            raise
        except Exception:
            log.exception("command failed", command=command)
            raise MessageRefused(Code.INTERNAL, UNEXPECTED) from None

    async def _heartbeat(self, payload: Any, caller: Identity) -> Mapping[str, str]:
        """Set status and last heartbeat of an agent that exists, and nothing else of it."""
        report = read_report(payload, self._zone)
        work = partial(self._report, report=report, caller=caller)
        row = await self._database.run(self._database.transact, work)
        if row is None:
            raise MessageRefused(Code.MALFORMED, f"Unknown agent: {report.name}")
        self._events.beat(row, msgspec.json.encode(row))
        return {}

    def _report(self, connection: Connection, report: Report, caller: Identity) -> Row | None:
        store = AgentStore(connection)
        before = store.lock([report.name]).get(report.name)
        if before is None:
            return None
        if not caller.within(before["namespace"]):
            raise denied()
        after = store.report(before["id"], report.status, report.at)
        self._events.changed(connection, before, after)
        return after

    async def _capabilities(self, _: Any, __: Identity) -> Mapping[str, str]:
        return COMMANDS

    async def _liveness(self, _: Any, __: Identity) -> Mapping[str, str]:
        """Say ``alive`` or ``dead`` of every agent, those that have exited too."""

        def read(connection: Connection) -> Mapping[str, str]:
            found = AgentStore(connection).liveness(SILENCE)
            return {name: "alive" if alive else "dead" for name, alive in found.items()}

        return await self._database.run(self._database.read, read)
