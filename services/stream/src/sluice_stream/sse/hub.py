"""Hands each message to all who want it, and keeps the newest ones for those who come back."""

import asyncio
from bisect import bisect_right
from collections.abc import Sequence
from operator import attrgetter

from sluice_core.http.sse import Reader, encode_event
from sluice_stream.sse.event import Event, Values
from sluice_stream.sse.filters import Filters
from sluice_stream.sse.position import Position

__all__ = ["Follower", "Hub", "reset_event"]

# What is kept for those who come back after a moment, all at once when a replica ends: half a minute at 200 a second,
# 2 kB each.
RECENT = 5_000
RECENT_BYTES = 16 * 1024 * 1024
# Steps in which those who come back read it.
STEP = 100

_sequence = attrgetter("sequence")


class Follower:
    """A reader with what it wants and where it is.

    Parameters
    ----------
    reader
        Gets the events.
    filters
        Of its request.
    resumes
        Whether it knows the event ``reset``: it told where it was, or asked for more than the contract's events.

    Attributes
    ----------
    since
        Sequence after which it wants messages.
    """

    def __init__(self, reader: Reader, filters: Filters, *, resumes: bool) -> None:
        self.reader = reader
        self.filters = filters
        self.resumes = resumes
        self.since = 0


class _Group:
    """All followers with the same filters."""

    def __init__(self, filters: Filters) -> None:
        self.filters = filters
        self.followers: dict[Follower, None] = {}


class Hub:
    """All who follow messages in this process.

    A message is looked up by its own values among those that are asked for, so it costs what it matches, not what is
    connected.

    Attributes
    ----------
    position
        The last message that was handed out; None as long as nothing was read.
    ready
        Set once all that was there at the start has been read.
    """

    def __init__(self) -> None:
        self.position: Position | None = None
        self.ready = asyncio.Event()
        self._groups: dict[Filters, _Group] = {}
        self._everything: dict[_Group, None] = {}
        self._wanted: dict[tuple[str, str], dict[_Group, None]] = {}
        self._ahead: list[Follower] = []
        self._recent: list[Event] = []
        self._recent_bytes = 0
        self._kept_after = 0

    def begin(self, position: Position) -> None:
        """Go on after this position; what was kept of another stream, or before a gap, is forgotten."""
        if self.position != position:
            self._recent, self._recent_bytes = [], 0
            self._kept_after = position.sequence
        self.position = position

    def feed(self, events: Sequence[Event]) -> None:
        """Hand out messages that follow each other."""
        assert self.position is not None
        for event in events:
            if event.values is not None:
                self._hand_out(event, event.values)
            self._recent.append(event)
            self._recent_bytes += len(event.frame)
        self.position = Position(self.position.epoch, events[-1].sequence)
        if len(self._recent) > 2 * RECENT or self._recent_bytes > RECENT_BYTES:
            self._forget()
        if self._ahead:
            for follower in self._ahead:
                follower.reader.live = follower.since <= self.position.sequence
            self._ahead = [follower for follower in self._ahead if not follower.reader.live]

    def after(self, sequence: int) -> list[Event] | None:
        """Return the next messages after a sequence; none for who is where we are, None when they are not kept."""
        assert self.position is not None
        if sequence >= self.position.sequence:
            return []
        if sequence < self._kept_after:
            return None
        at = bisect_right(self._recent, sequence, key=_sequence)
        return self._recent[at : at + STEP]

    def join(self, follower: Follower) -> None:
        """Hand each message after its `since` to this follower, from now on; `after` has nothing more for it."""
        assert self.position is not None
        group = self._groups.get(follower.filters)
        if group is None:
            group = self._groups[follower.filters] = _Group(follower.filters)
            for place in self._places(group):
                place[group] = None
        group.followers[follower] = None
        # A heartbeat tells our position. Who was ahead of it elsewhere must not be taken back.
        follower.reader.live = follower.since <= self.position.sequence
        if not follower.reader.live:
            self._ahead.append(follower)

    def leave(self, follower: Follower) -> None:
        """Hand it nothing more."""
        group = self._groups.get(follower.filters)
        if follower in self._ahead:
            self._ahead.remove(follower)
        if group is None or follower not in group.followers:
            return
        del group.followers[follower]
        if not group.followers:
            del self._groups[group.filters]
            for place in self._places(group):
                del place[group]
            for parameter, values in group.filters.given[:1]:
                for value in values:
                    if not self._wanted[parameter, value]:
                        del self._wanted[parameter, value]

    def missed(self, reason: str) -> None:
        """Tell all who know what it means that messages are missing here, and go on at `position`."""
        for group in self._groups.values():
            for follower in group.followers:
                follower.since = 0
                if follower.resumes:
                    follower.reader.tell(reset_event(reason, self.position))

    def _places(self, group: _Group) -> list[dict[_Group, None]]:
        """Return where a group is looked up: under each value of its first parameter."""
        if not group.filters.given:
            return [self._everything]
        parameter, values = group.filters.given[0]
        return [self._wanted.setdefault((parameter, value), {}) for value in values]

    def _hand_out(self, event: Event, values: Values) -> None:
        found = dict(self._everything)
        for parameter, texts in values.items():
            for text in texts:
                if groups := self._wanted.get((parameter, text)):
                    found.update(groups)
        sequence, frame = event.sequence, event.frame
        for group in found:
            if group.filters.match(values):
                for follower in group.followers:
                    if sequence > follower.since:
                        follower.reader.offer(frame)

    def _forget(self) -> None:
        keep = len(self._recent)
        size = self._recent_bytes
        at = 0
        while keep - at > RECENT or size > RECENT_BYTES // 2:
            size -= len(self._recent[at].frame)
            at += 1
        self._kept_after = self._recent[at - 1].sequence
        del self._recent[:at]
        self._recent_bytes = size


def reset_event(reason: str, position: Position | None) -> bytes:
    """Return the event that says: what came after your last event is not here; the stream goes on from this id."""
    return encode_event("reset", b'{"reason": "%b"}' % reason.encode(), str(position) if position else "")
