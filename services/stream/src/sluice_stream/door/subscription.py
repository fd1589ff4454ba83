"""One subscription of one connection: what it wants, and what it has and has not acknowledged."""

from collections import OrderedDict
from collections.abc import Callable
from itertools import count
from typing import Protocol

from sluice_core.auth import Identity
from sluice_stream.door.backlog import Held
from sluice_stream.door.post import Post
from sluice_stream.door.protocol import Subscribe
from sluice_stream.door.selectors import Selector

__all__ = ["Guest", "Subscription"]


class Guest(Protocol):
    """A client, as far as a subscription needs it."""

    version: str
    client_id: str
    namespace: str
    identity: Identity

    @property
    def clogged(self) -> bool:
        """Whether it has not read for so long that nothing should be added."""
        ...

    def send(self, frame: bytes, taken: Callable[[], None] | None = None) -> None:
        """Write a frame, and say when the socket has taken it."""
        ...

    def number(self) -> int:
        """Return a number that no other delivery of the connection has."""
        ...


class Subscription:
    """A subscription; takes messages of topics (`tell`) or of queues (`take`).

    Parameters
    ----------
    guest
        Whose it is.
    ask
        What he wants.
    selector
        Of it; None: everything.
    """

    def __init__(self, guest: Guest, ask: Subscribe, selector: Selector | None) -> None:
        self.guest = guest
        self.ask = ask
        self.selector = selector
        # By message id in 1.1, by the number of the delivery in 1.2.
        self.out: OrderedDict[str, Held] = OrderedDict()
        # On their way to the socket, acknowledged once there.
        self._unread: dict[int, Held] = {}
        self._tickets = count()

    @property
    def choosy(self) -> bool:
        """Whether it leaves some to others."""
        return self.selector is not None

    @property
    def waiting(self) -> int:
        """How many messages it has and has not acknowledged."""
        return len(self.out) + len(self._unread)

    def room(self) -> bool:
        """Whether it takes one more now."""
        return not self.guest.clogged and (self.ask.mode == "auto" or len(self.out) < self.ask.prefetch)

    def wants(self, post: Post) -> bool:
        """Whether this one is for it."""
        return self.selector is None or self.selector(post.properties)

    def tell(self, post: Post) -> None:
        """Pass on a message of a topic, which nobody keeps; an ACK of it means nothing."""
        version = self.guest.version
        own = {"subscription": self.ask.id}
        if self.ask.mode != "auto" and version == "1.2":
            own["ack"] = f"topic-{self.guest.number()}"
        self.guest.send(post.frame(version, **own))

    def take(self, held: Held) -> None:
        """Pass on a message of a queue, or of a durable subscription."""
        version = self.guest.version
        own = {"subscription": self.ask.id}
        if held.redelivered:
            own["redelivered"] = "true"
        if self.ask.mode == "auto":
            ticket = next(self._tickets)
            self._unread[ticket] = held
            self.guest.send(held.post.frame(version, **own), lambda: self._taken(ticket))
            return
        known = str(held.post.id)
        if version == "1.2":
            own["ack"] = known = str(self.guest.number())
        self.out[known] = held
        self.guest.send(held.post.frame(version, **own))

    def _taken(self, ticket: int) -> None:
        held = self._unread.pop(ticket, None)
        if held is not None:
            held.backlog.done(held)

    def settle(self, known: str, good: bool) -> list[Held]:
        """Acknowledge a delivery, with mode ``client`` all before it too, or refuse them.

        Returns
        -------
        list of Held
            What that was; empty when it is not out.
        """
        if known not in self.out:
            return []
        if self.ask.mode == "client":
            # In 1.2 too: an ACK speaks for those before it.
            names = list(self.out)
            names = names[: names.index(known) + 1]
        else:
            names = [known]
        found = [self.out.pop(name) for name in names]
        for held in found:
            (held.backlog.done if good else held.backlog.refuse)(held)
        return found

    def give_back(self) -> None:
        """Let go of what was not acknowledged."""
        for held in (*self.out.values(), *self._unread.values()):
            held.backlog.back(held)
        self.out.clear()
        self._unread.clear()
