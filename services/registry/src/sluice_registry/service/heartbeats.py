"""Heartbeats: many at once, each durable before it is answered (contract 3.1, 7.3; decision 9)."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta, tzinfo
from functools import partial
from time import monotonic
from typing import Any, NamedTuple

import msgspec
import structlog
from sqlalchemy import Connection

from sluice_core.auth import Identity
from sluice_core.database import Database, DatabaseAway
from sluice_core.rest import Boolean, FieldError, Integer, Invalid, Json, Text, Url, denied
from sluice_registry.events import AgentEvents, same
from sluice_registry.store.agents import SAID, AgentStore, Row

__all__ = ["Beat", "Heartbeats", "Outcome", "read_beat"]

log = structlog.get_logger(__name__)

REQUIRED = "This field is required."
EXITED = "EXITED"
# Beats of one transaction. A batch of this size takes some 10 ms, which every one of them waits for.
BATCH = 500
# How long an agent may be silent beyond its time while others beat. A look at all agents with each batch needs an index
# on `last_heartbeat`, and with one PostgreSQL writes every index of the table at each beat: twice the work.
LOOK = timedelta(seconds=1)
# Transactions that are begun anew since another replica was faster.
OVERTAKEN = 5

# Looser than the resource: what agents call themselves and how they say they are is theirs (contract 3.1).
FIELDS = {
    each.name: each
    for each in (
        Text("agent_type", max_length=100),
        Text("description", blank=True),
        Text("status", max_length=10),
        Url("agent_url", max_length=200, null=True, blank=True),
        Text("namespace", max_length=100, null=True, blank=True),
        Boolean("workflow_enabled"),
        Text("operational_state", max_length=20),
        Integer("pid", null=True),
        Text("hostname", max_length=100, null=True, blank=True),
        Json("metadata", null=True),
        Integer("current_stf_count"),
        Integer("total_stf_processed"),
    )
}
NAME = Text("instance_name", max_length=100)
NEW: Row = {
    "agent_type": "other",
    "description": "",
    "status": "OK",
    "agent_url": None,
    "workflow_enabled": True,
    "current_stf_count": 0,
    "total_stf_processed": 0,
    "pid": None,
    "hostname": None,
    "operational_state": "STARTING",
    "namespace": None,
    "metadata": None,
}


class Beat(msgspec.Struct, frozen=True):
    """One heartbeat: whose it is, and what it says; what it does not say is kept.

    Attributes
    ----------
    new
        How an agent begins that is heard of for the first time, where that differs from `NEW`.
    sender
        Who must be allowed to write the agent's namespace, before and after; None: whoever it is may.
    """

    name: str
    said: Mapping[str, Any]
    new: Mapping[str, Any] = {}
    sender: Identity | None = None

    @property
    def limited(self) -> bool:
        """Whether there are namespaces that its sender may not write."""
        return self.sender is not None and self.sender.namespaces is not None

    def first(self) -> Row:
        """Return the agent as it begins with this heartbeat."""
        return apply({**NEW, **self.new, "instance_name": self.name}, self.said)

    def may_touch(self, row: Row) -> bool:
        """Whether its sender may write an agent as this one."""
        return self.sender is None or self.sender.within(row["namespace"])


class Outcome(NamedTuple):
    """The agent after its heartbeat, also as JSON for all who are told, and whether it is new."""

    row: Row
    json: bytes
    created: bool


def read_beat(data: Mapping[str, Any], zone: tzinfo) -> Beat:
    """Validate a heartbeat.

    Raises
    ------
    Invalid
        Each bad key with its messages (contract 2.6).
    """
    errors: dict[str, list[str]] = {}
    said: dict[str, Any] = {}
    name = ""
    try:
        # Only a truthy name is one; 0 and false are not (contract 3.1).
        name = NAME.parse(data.get("instance_name") or "", zone)
    except FieldError as exc:
        blank = str(exc) == "This field may not be blank."
        errors["instance_name"] = [REQUIRED] if blank else list(exc.args)
    for key, value in data.items():
        if kind := FIELDS.get(key):
            try:
                said[key] = kind.parse(value, zone)
            except FieldError as exc:
                errors[key] = list(exc.args)
    if errors:
        raise Invalid(errors)
    return Beat(name, said)


def apply(row: Row, said: Mapping[str, Any]) -> Row:
    """Return an agent as it is after a heartbeat, clocks aside.

    A live heartbeat clears EXITED in whatever it does not speak of (decision 9).
    """
    after = {**row, **said}
    if after["status"] == EXITED and "status" not in said:
        after["status"] = "OK"
    if after["operational_state"] == EXITED and "operational_state" not in said and after["status"] != EXITED:
        after["operational_state"] = "READY"
    return after


@dataclass
class _Waiting:
    beat: Beat
    done: "asyncio.Future[Outcome]" = field(repr=False)


class Heartbeats:
    """Takes heartbeats one by one and stores all that came while the last transaction ran in the next one.

    So an answer always follows its commit, and the busier the door is, the fewer commits each heartbeat costs.

    Parameters
    ----------
    database
        Where agents are.
    events
        What is said about them.
    stale_after
        Silence after which an agent is EXITED.
    waiting
        How many may wait; `DatabaseAway` beyond it.
    look_every
        Heartbeats look for silent agents at most that often.
    """

    def __init__(
        self,
        database: Database,
        events: AgentEvents,
        *,
        stale_after: timedelta,
        waiting: int = 4096,
        look_every: timedelta = LOOK,
    ) -> None:
        self._database = database
        self._events = events
        self._stale_after = stale_after
        self._most = waiting
        self._look_every = look_every.total_seconds()
        self._next_look = 0.0
        self._queue: list[_Waiting] = []
        self._arrived = asyncio.Event()

    async def beat(self, beat: Beat) -> Outcome:
        """Store a heartbeat; returns after the commit.

        Raises
        ------
        ApiError
            403: the agent is, or would be, in a namespace that is not its sender's.
        DatabaseAway
            It is not stored: PostgreSQL cannot be reached, or too many wait.
        """
        if len(self._queue) >= self._most:
            raise DatabaseAway("too many heartbeats wait")
        waiting = _Waiting(beat, asyncio.get_running_loop().create_future())
        self._queue.append(waiting)
        self._arrived.set()
        outcome = await waiting.done
        self._events.beat(outcome.row, outcome.json)
        return outcome

    async def run(self) -> None:
        """Store what comes, for ever; a long-lived task."""
        try:
            while True:
                await self._arrived.wait()
                batch, self._queue = self._queue[:BATCH], self._queue[BATCH:]
                if not self._queue:
                    self._arrived.clear()
                await self._store(batch)
        finally:
            for each in self._queue:
                each.done.cancel()

    async def sweep_regularly(self, every: timedelta) -> None:
        """Look for silent agents from time to time, for ever; a long-lived task."""
        while True:
            with suppress(DatabaseAway):
                await self._database.run(self.sweep)
            await asyncio.sleep(every.total_seconds())

    def sweep(self) -> None:
        """Mark silent agents as EXITED; blocks."""
        self._database.transact(self._sweep)

    def look_soon(self) -> None:
        """Have the next heartbeat look for silent agents: somebody else wrote when one was heard of last."""
        self._next_look = 0.0

    async def record(self, beats: Sequence[Beat]) -> list[Outcome]:
        """Store heartbeats together, in the order in which they came; returns after the commit, and says so.

        Returns
        -------
        list
            What became of them, without those whose sender may not touch their agent.

        Raises
        ------
        DatabaseAway
            They are not stored.
        """
        outcomes = [outcome for outcome in await self._transact(beats) if outcome is not None]
        for outcome in outcomes:
            self._events.beat(outcome.row, outcome.json)
        return outcomes

    async def _store(self, batch: Sequence[_Waiting]) -> None:
        try:
            outcomes = await self._transact([each.beat for each in batch])
        except Exception as exc:
            if len(batch) > 1 and not isinstance(exc, DatabaseAway):
                # One of them cannot be stored; the others must not suffer for it.
                for each in batch:
                    await self._store([each])
                return
            for each in batch:
                if not each.done.done():
                    each.done.set_exception(exc)
            return
        for each, outcome in zip(batch, outcomes, strict=True):
            if each.done.done():
                continue
            if outcome is None:
                each.done.set_exception(denied())
            else:
                each.done.set_result(outcome)

    async def _transact(self, beats: Sequence[Beat]) -> Sequence[Outcome | None]:
        """Store heartbeats; None for each whose sender may not touch its agent."""
        for _ in range(OVERTAKEN):
            with suppress(_Overtaken):
                return await self._database.run(self._keep, beats)
        raise DatabaseAway("other replicas make the same agents again and again")

    def _keep(self, beats: Sequence[Beat]) -> Sequence[Outcome | None]:
        look = (now := monotonic()) >= self._next_look
        # Most beats change nothing: one statement instead of a transaction around it.
        alone = not look and not any(beat.limited for beat in beats)
        if alone and (heard := self._database.single(partial(self._hear, beats=beats))):
            return heard
        if look:
            self._next_look = now + self._look_every
        try:
            return self._database.transact(partial(self._record, beats=beats, look=look))
        except BaseException:
            if look:
                self.look_soon()
            raise

    def _hear(self, connection: Connection, beats: Sequence[Beat]) -> list[Outcome] | None:
        """Store beats that change nothing; None when there is more to do, and all is to be done anew."""
        stored = AgentStore(connection).hear(list({beat.name for beat in beats}))
        rows = [stored.get(beat.name) for beat in beats]
        if not all(row and same(apply(row, beat.said), row) for row, beat in zip(rows, beats, strict=True)):
            return None
        return [Outcome(row, msgspec.json.encode(row), created=False) for row in rows if row]

    def _record(self, connection: Connection, beats: Sequence[Beat], *, look: bool) -> list[Outcome | None]:
        store = AgentStore(connection)
        allowed = [True] * len(beats)
        if any(beat.limited for beat in beats):
            allowed = _allowed(store.lock(list({beat.name for beat in beats})), beats)
        outcomes = iter(self._record_all(connection, store, [b for b, ok in zip(beats, allowed, strict=True) if ok]))
        if look:
            self._sweep(connection)
        return [next(outcomes) if ok else None for ok in allowed]

    def _record_all(self, connection: Connection, store: AgentStore, beats: Sequence[Beat]) -> list[Outcome]:
        if not beats:
            return []
        stored = store.hear(list({beat.name for beat in beats}))
        new = self._add(store, beats, stored)
        latest = dict(stored)
        for beat in beats:
            latest[beat.name] = apply(latest[beat.name], beat.said)
        changed = [_said(row) | {"id": row["id"]} for name, row in latest.items() if not same(row, stored[name])]
        after = stored | {row["instance_name"]: row for row in store.change(changed)}
        for name in sorted({*new, *(row["instance_name"] for row in changed)}):
            before = None if name in new else stored[name]
            self._events.changed(connection, before, after[name])
        outcomes = []
        for beat in beats:
            row = after[beat.name]
            outcomes.append(Outcome(row, msgspec.json.encode(row), beat.name in new))
            new.discard(beat.name)
        return outcomes

    def _add(self, store: AgentStore, beats: Sequence[Beat], stored: dict[str, Row]) -> set[str]:
        """Store agents that are heard of for the first time; fills ``stored``, returns the names of the new ones."""
        first = {beat.name: beat for beat in reversed(beats) if beat.name not in stored}
        rows = [beat.first() for _, beat in sorted(first.items())]
        added = {row["instance_name"]: row for row in store.add(rows)}
        stored.update(added)
        if met := set(first) - set(added):
            if any(beat.limited for beat in beats if beat.name in met):
                raise _Overtaken
            # Another replica was faster; its row is there now.
            stored.update(store.lock(list(met)))
        return set(added)

    def _sweep(self, connection: Connection) -> None:
        for row in AgentStore(connection).sweep(self._stale_after):
            log.info("agent is silent", agent=row["instance_name"], last_heartbeat=row["last_heartbeat"].isoformat())
            self._events.changed(connection, None, row)


class _Overtaken(Exception):
    """Another replica has just made an agent whose namespace has to be looked at first."""


def _allowed(stored: Mapping[str, Row], beats: Sequence[Beat]) -> list[bool]:
    """Say of each heartbeat whether its sender may touch its agent, those before it considered."""
    rows, allowed = dict(stored), []
    for beat in beats:
        before = rows.get(beat.name)
        after = beat.first() if before is None else apply(before, beat.said)
        ok = (before is None or beat.may_touch(before)) and beat.may_touch(after)
        if ok:
            rows[beat.name] = after
        allowed.append(ok)
    return allowed


def _said(row: Row) -> Row:
    return {each.name: row[each.name] for each in SAID}
