"""Which namespace each agent is of, by its last heartbeat (decision 18)."""

from collections import OrderedDict
from collections.abc import Callable

import msgspec
import structlog
from nats.aio.msg import Msg

from sluice_core.bus import AGENTS, Backoff, Bus, BusError, following
from sluice_core.subjects import from_token

__all__ = ["Namespaces"]

log = structlog.get_logger(__name__)

# Agents that are remembered, those that were heard last.
MOST = 100_000


class _Agent(msgspec.Struct):
    instance_name: str
    namespace: str | None = None


class _Event(msgspec.Struct):
    type: str
    data: _Agent


_event = msgspec.json.Decoder(_Event).decode


class Namespaces:
    """Follows agents.

    Parameters
    ----------
    bus
        Where they are told.
    changed
        Called with the name of an agent whose namespace became known, or became another one.
    """

    def __init__(self, bus: Bus, changed: Callable[[str], None]) -> None:
        self._bus = bus
        self._changed = changed
        self._known: OrderedDict[str, str | None] = OrderedDict()

    def __contains__(self, name: str) -> bool:
        return name in self._known

    def of(self, name: str) -> str | None:
        """Return the namespace of an agent; None when it has none, or is not known."""
        return self._known.get(name)

    async def run(self) -> None:
        """Follow for ever; a long-lived task.

        An agent that has changed nothing for a week is in no stream; then its next heartbeat tells.
        """
        delays = Backoff()
        while True:
            try:
                session = await self._bus.session()
                heard = await session.subscribe("agents.heartbeat.*.*", self._beat)
                try:
                    async with following(self._bus, AGENTS.name, newest_of="agents.state.>") as agents:
                        delays.reset()
                        while session.alive:
                            for message in await agents.fetch(5.0):
                                self._state(message.data)
                finally:
                    await session.unsubscribe(heard)
            except BusError as exc:
                log.info("agents are not followed", reason=str(exc))
            await delays.wait()

    async def _beat(self, message: Msg) -> None:
        try:
            namespace, name = map(from_token, message.subject.split(".")[2:])
        except ValueError:
            return
        if name:
            self._note(name, namespace)

    def _state(self, data: bytes) -> None:
        try:
            event = _event(data)
        except (msgspec.MsgspecError, RecursionError):
            return
        if event.type == "agent.deleted":
            self._known.pop(event.data.instance_name, None)
        else:
            self._note(event.data.instance_name, event.data.namespace)

    def _note(self, name: str, namespace: str | None) -> None:
        known = name in self._known and self._known[name] == namespace
        self._known[name] = namespace
        self._known.move_to_end(name)
        if len(self._known) > MOST:
            self._known.popitem(last=False)
        if not known:
            self._changed(name)
