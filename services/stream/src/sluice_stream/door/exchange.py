"""From those who send to those who listen: topics to all who are there, the rest by way of a stream."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from sluice_core import subjects
from sluice_core.bus import DURABLES, QUEUES, Backoff, Bus, BusError, Queue, Stored, StreamRefused
from sluice_stream.door.backlog import MOST, Backlog, Counts, Settler, Tried
from sluice_stream.door.durables import Durable, Durables
from sluice_stream.door.namespaces import Namespaces
from sluice_stream.door.post import Post
from sluice_stream.door.protocol import Violation
from sluice_stream.door.subscription import Subscription
from sluice_stream.intake import Intake
from sluice_stream.messages import TOPIC, Message

__all__ = ["Exchange", "Rules"]

log = structlog.get_logger(__name__)

RESULT = "slice_result"


@dataclass(frozen=True)
class Rules:
    """What is special about destinations.

    Attributes
    ----------
    recorded
        What is sent there goes into `MESSAGES` before anybody else gets it.
    results
        Of what is sent there, results of slices go into `MESSAGES` too.
    shared
        Queues that agents of several namespaces share, each of which gets its own (decision 18).
    """

    recorded: frozenset[str]
    results: frozenset[str]
    shared: frozenset[str]


class Exchange:
    """All destinations.

    Parameters
    ----------
    bus, intake
        Where messages are kept and recorded.
    rules
        About destinations.
    durables
        Those that there are.
    counts
        Where to count.

    Attributes
    ----------
    stalled
        Why what is sent is not stored now; empty when it is.
    """

    def __init__(self, bus: Bus, intake: Intake, rules: Rules, durables: Durables, counts: Counts) -> None:
        self.stalled = ""
        self.counts = counts
        self.durables = durables
        self.namespaces = Namespaces(bus, self._moved)
        self.settler = Settler(bus)
        self._bus = bus
        self._intake = intake
        self._rules = rules
        self._topics: dict[str, list[Subscription]] = {}
        self._backlogs: dict[str, Backlog] = {}
        self._tried = Tried()
        self._joined: dict[Subscription, set[str]] = {}

    # Sending.

    async def publish(self, posts: Sequence[Post]) -> list[str]:
        """Pass messages on, in their order; returns once what must last is stored, however long that takes.

        Returns
        -------
        list of str
            For each why it was refused; empty when it was not.
        """
        await self._record([post for post in posts if self._is_recorded(post)])
        reasons = [""] * len(posts)
        kept: list[tuple[int, Stored]] = []
        for at, post in enumerate(posts):
            if post.destination.startswith(TOPIC):
                for durable, selector in self.durables.of(post.destination):
                    if selector is None or selector(post.properties):
                        kept.append((at, post.stored(subjects.durable(durable.key), f"{post.id}-{durable.key}")))
            else:
                namespace = post.namespace if post.destination in self._rules.shared else None
                kept.append((at, post.stored(subjects.queued(post.destination, namespace), str(post.id))))
        for at, reason in await self._keep(kept):
            if posts[at].destination.startswith(TOPIC):
                self.counts.lost += 1
                log.warning("a durable subscription loses a message", reason=reason)
            else:
                reasons[at] = reason
        for post in posts:
            for subscription in self._topics.get(post.destination, ()):
                if subscription.wants(post):
                    subscription.tell(post)
        return reasons

    def _is_recorded(self, post: Post) -> bool:
        rules = self._rules
        return post.destination in rules.recorded or (post.destination in rules.results and post.msg_type == RESULT)

    async def _record(self, posts: Sequence[Post]) -> None:
        left = [Message(post.id, post.destination, post.at, post.body) for post in posts]
        delays = Backoff(0.1, 5.0)
        while left:
            outcomes = await self._intake.take_all(left)
            failed = [(message, why) for message, why in zip(left, outcomes, strict=True) if why is not None]
            left = [message for message, _ in failed]
            self._stall(str(failed[0][1]) if failed else "")
            if left:
                await delays.wait()

    async def _keep(self, kept: Sequence[tuple[int, Stored]]) -> list[tuple[int, str]]:
        """Store all; return what the streams do not take, and why."""
        refused: list[tuple[int, str]] = []
        delays = Backoff(0.1, 5.0)
        left = list(kept)
        while left:
            outcomes: list[Any] = await self._bus.publish_all([stored for _, stored in left])
            away: list[tuple[int, Stored]] = []
            reason = ""
            for each, outcome in zip(left, outcomes, strict=True):
                if isinstance(outcome, StreamRefused):
                    refused.append((each[0], str(outcome)))
                elif isinstance(outcome, BusError):
                    away.append(each)
                    reason = str(outcome)
            self._stall(reason)
            left = away
            if left:
                await delays.wait()
        return refused

    def _stall(self, reason: str) -> None:
        if bool(reason) != bool(self.stalled):
            if reason:
                log.warning("what clients send waits", reason=reason)
            else:
                log.info("what clients send is stored again")
        self.stalled = reason

    # Listening.

    async def subscribe(self, subscription: Subscription) -> None:
        """Let a subscription have what it asks for from now on.

        Raises
        ------
        Violation
            It cannot.
        BusAway, StreamRefused
            It is durable, and that cannot be made sure of.
        """
        ask = subscription.ask
        if ask.durable:
            durable = _durable(subscription, ask.durable)
            await self._renew(durable)
            self._join(subscription, [subjects.durable(durable.key)])
        elif ask.destination.startswith(TOPIC):
            self._topics.setdefault(ask.destination, []).append(subscription)
        else:
            self._join(subscription, self._subjects(subscription))

    async def _renew(self, durable: Durable) -> None:
        found = self.durables.find(durable)
        if subjects.durable(durable.key) in self._backlogs:
            raise Violation(f"the durable subscription {durable.name!r} is in use")
        if found == durable:
            return
        if found is not None:
            # As JMS has it: with another topic or selector, it is another subscription.
            await self._purge(found)
        await self.durables.keep(durable)

    def unsubscribe(self, subscription: Subscription) -> None:
        """Let a subscription have nothing more; what it has not acknowledged is for others."""
        listeners = self._topics.get(subscription.ask.destination, [])
        if subscription in listeners:
            # A new list: another one may be gone through.
            left = [each for each in listeners if each is not subscription]
            if left:
                self._topics[subscription.ask.destination] = left
            else:
                del self._topics[subscription.ask.destination]
        subscription.give_back()
        self._leave(subscription, list(self._joined.pop(subscription, ())))

    async def forget(self, client_id: str, owner: str, name: str) -> None:
        """End a durable subscription.

        Raises
        ------
        Violation
            There is none, or not of this user, or somebody uses it.
        BusAway, StreamRefused
            It may still be there.
        """
        found = self.durables.find(Durable(client_id, name, owner, ""))
        if found is None:
            raise Violation(f"there is no durable subscription {name!r} of {client_id!r}")
        if subjects.durable(found.key) in self._backlogs:
            raise Violation(f"the durable subscription {name!r} is in use")
        await self.durables.forget(found)
        await self._purge(found)

    async def _purge(self, durable: Durable) -> None:
        await Queue(self._bus, DURABLES.name, subjects.durable(durable.key), most=1).purge()

    def ready(self, subscriptions: Iterable[Subscription]) -> None:
        """Say that these have room again."""
        for subject in {subject for each in subscriptions for subject in self._joined.get(each, ())}:
            self._backlogs[subject].dispatch()

    def close(self) -> None:
        """Let everything go."""
        self._topics.clear()
        self._joined.clear()
        for backlog in self._backlogs.values():
            backlog.close()
        self._backlogs.clear()

    # Which subjects a subscription reads.

    def _subjects(self, subscription: Subscription) -> list[str]:
        destination = subscription.ask.destination
        if destination not in self._rules.shared:
            return [subjects.queued(destination)]
        guest, ask = subscription.guest, subscription.ask
        names = {name for name in (ask.namespace, guest.namespace) if name}
        if not names and subscription.selector is not None:
            names = set(subscription.selector.wanted("namespace"))
        if not names and (of_agent := self.namespaces.of(guest.client_id)) is not None:
            names = {of_agent}
        allowed: list[str | None] = [name for name in (None, *sorted(names)) if guest.identity.within(name)]
        return [subjects.queued(destination, name) for name in allowed]

    def _moved(self, client_id: str) -> None:
        """Follow an agent to its namespace."""
        for subscription in list(self._joined):
            if subscription.guest.client_id == client_id and subscription.ask.destination in self._rules.shared:
                wanted, had = set(self._subjects(subscription)), self._joined[subscription]
                if wanted != had:
                    self._leave(subscription, list(had - wanted))
                    self._join(subscription, sorted(wanted - had))

    def _join(self, subscription: Subscription, wanted: Iterable[str]) -> None:
        joined = self._joined.setdefault(subscription, set())
        for subject in wanted:
            joined.add(subject)
            backlog = self._backlogs.get(subject)
            if backlog is None:
                stream = (DURABLES if subject.startswith(f"{subjects.DURABLES}.") else QUEUES).name
                queue = Queue(self._bus, stream, subject, most=MOST)
                backlog = self._backlogs[subject] = Backlog(queue, self.settler, self.counts, self._tried)
            backlog.join(subscription)

    def _leave(self, subscription: Subscription, left: Iterable[str]) -> None:
        if subscription in self._joined:
            self._joined[subscription].difference_update(left)
        for subject in left:
            backlog = self._backlogs[subject]
            backlog.leave(subscription)
            if not backlog.takers:
                del self._backlogs[subject]

    # For people.

    def in_use(self) -> dict[str, tuple[int, int]]:
        """Return of each subject that is read how many read it, and how many messages wait for an ACK."""
        return {subject: (backlog.takers, backlog.out) for subject, backlog in self._backlogs.items()}

    def queues(self) -> list[tuple[str, str | None]]:
        """Return the queues that are read, and whose part of it."""
        prefix = f"{subjects.QUEUES}."
        return [subjects.queued_for(subject) for subject in self._backlogs if subject.startswith(prefix)]

    def topics(self) -> dict[str, int]:
        """Return of each topic how many listen."""
        return {destination: len(listeners) for destination, listeners in self._topics.items()}


def _durable(subscription: Subscription, name: str) -> Durable:
    guest = subscription.guest
    if not guest.client_id:
        raise Violation("a durable subscription needs a client-id at CONNECT")
    text = subscription.selector.text if subscription.selector is not None else ""
    return Durable(guest.client_id, name, guest.identity.subject, subscription.ask.destination, text)
