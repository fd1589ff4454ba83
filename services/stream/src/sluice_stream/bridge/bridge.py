"""The bridge: what a broker delivers goes into the streams, and what waits in `OUTBOUND` goes to the broker."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import uuid4

import msgspec
import structlog

from sluice_core import subjects
from sluice_core.bus import OUTBOUND, Backoff, Bus, Consumer, Message, Rejected, consume
from sluice_core.subjects import token
from sluice_stream.bridge.broker import Address, Broker, BrokerAway, Frame, SendRefused, Subscription
from sluice_stream.intake import SLUICE_ID, Intake
from sluice_stream.lease import Lease
from sluice_stream.messages import ID, TOPIC

__all__ = ["HEADERS", "Bridge", "BridgeState"]

log = structlog.get_logger(__name__)

HEADERS = "Sluice-Stomp-Headers"
"""Header of a message in `OUTBOUND`: those that the broker shall get, as a JSON object in ASCII."""

# Messages that the broker sends ahead, and most that are on their way into the streams at once.
WINDOW = 512
PULSE = "pulse"
# Unanswered pulses after which the bridge counts as deaf; and seconds without any sign from the broker.
DEAF = 3
SILENT = 25.0
LOOK = 1.0
# Seconds for what runs to end once the connection is lost.
END = 1.0
# Tries of a message on whose sending the broker hangs up. It has no other way to say that it cannot be sent.
TRIES = 5

# One batch at a time, so that what comes again comes in order; and soon, when a bridge had no time to give it back.
OUT = Consumer(stream=OUTBOUND.name, durable="stream-bridge", batch=100, max_ack_pending=100, ack_wait=5.0)


@dataclass
class BridgeState:
    """What the bridge of this process does, for metrics and readiness.

    Attributes
    ----------
    active
        It has the lease.
    connected
        It listens to the broker.
    problem
        Why not; empty when there is none.
    stalled
        Why what came is not stored now; empty when it is.
    connections
        How often it has connected.
    received, stored, sent
        Messages.
    round_trip
        Seconds of the last heartbeat through the broker; None before the first.
    heard
        Time of the event loop when it came back.
    """

    active: bool = False
    connected: bool = False
    problem: str = "not started"
    stalled: str = ""
    connections: int = 0
    received: int = 0
    stored: int = 0
    sent: int = 0
    round_trip: float | None = None
    heard: float = 0.0

    def check(self) -> tuple[bool, str]:
        """Say how it is: a readiness check that is never red, since everything else works without a broker."""
        if not self.active:
            return True, "another process has the bridge, or none has it yet"
        if not self.connected:
            return True, f"no broker: {self.problem}"
        if self.stalled:
            return True, f"what the broker sends waits there: {self.stalled}"
        trip = "" if self.round_trip is None else f", round trip {self.round_trip * 1000:.0f} ms"
        return True, f"connected{trip}"


class Bridge:
    """Carries messages both ways, and begins anew for ever.

    Parameters
    ----------
    bus, intake
        Where to.
    address
        Of the broker.
    destinations
        What to listen to.
    lease
        One bridge works at a time.
    pulse_every
        Seconds between two heartbeats through the broker; 0: none.
    pulse_topic
        Where they go.
    """

    def __init__(
        self,
        bus: Bus,
        intake: Intake,
        address: Address,
        destinations: Sequence[str],
        lease: Lease,
        *,
        pulse_every: float,
        pulse_topic: str,
    ) -> None:
        self.state = BridgeState()
        self._bus = bus
        self._intake = intake
        self._address = address
        self._subscriptions = [
            Subscription(str(number), destination, _durable(destination), WINDOW)
            for number, destination in enumerate(destinations, 1)
        ]
        self._lease = lease
        self._pulse_every = pulse_every
        self._pulse_topic = pulse_topic
        # Of the batch in hand, by sequence.
        self._confirmed: set[int] = set()
        self._tries: dict[int, int] = {}

    async def run(self) -> None:
        """Work for ever; a long-lived task."""
        delays = Backoff(0.5, 30.0)
        while True:
            async with self._lease.hold() as lost:
                self.state.active = True
                try:
                    while not lost.is_set():
                        await self._once(lost, delays)
                        await delays.wait(lost)
                finally:
                    self.state.active = False

    async def _once(self, lost: asyncio.Event, delays: Backoff) -> None:
        """Connect, and work until the connection or the lease is lost."""
        broker = Broker(self._address)
        try:
            await broker.open()
            # Before the first message can come.
            if self._pulse_every:
                await broker.subscribe(Subscription(PULSE, self._pulse_topic))
            for subscription in self._subscriptions:
                await broker.subscribe(subscription)
            self.state.connections += 1
            self.state.connected, self.state.problem = True, ""
            log.info("connected to the broker", broker=str(self._address), connections=self.state.connections)
            delays.reset()
            work = [_lost(lost), self._inward(broker), self._outward(broker), self._watch(broker)]
            tasks = [asyncio.create_task(each) for each in work]
            try:
                done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                await self._end(broker, tasks)
            for task in (*done, *tasks):  # what came first is the reason of the rest
                if not task.cancelled():
                    task.result()
        except BrokerAway as exc:
            # Once a fault, not once an attempt.
            if self.state.problem != str(exc):
                self.state.problem = str(exc)
                log.warning("the broker is away", broker=str(self._address), reason=self.state.problem)
        finally:
            self.state.connected, self.state.stalled = False, ""
            await broker.close()

    async def _end(self, broker: Broker, tasks: Sequence[asyncio.Task[None]]) -> None:
        """Let what runs end by itself: what waits in `OUTBOUND` is given back in order."""
        await broker.close()
        await asyncio.wait(tasks, timeout=END)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _inward(self, broker: Broker) -> None:
        while True:
            frames = await broker.frames(WINDOW)
            self.state.received += len(frames)
            await self._store(frames)
            self.state.stored += len(frames)
            broker.settled(frames)
            # The last one of each subscription speaks for those before it.
            for frame in {frame.subscription: frame for frame in frames}.values():
                await broker.ack(frame)

    async def _store(self, frames: Sequence[Frame]) -> None:
        """Store all, however long it takes: the broker keeps what we do not acknowledge."""
        delays = Backoff(0.1, 5.0)
        left = list(frames)
        while True:
            outcomes = await self._intake.take_all([frame.message for frame in left])
            failed = [(frame, why) for frame, why in zip(left, outcomes, strict=True) if why is not None]
            if not failed:
                if self.state.stalled:
                    log.info("messages are stored again")
                self.state.stalled = ""
                return
            left = [frame for frame, _ in failed]
            if not self.state.stalled:
                log.warning("messages wait at the broker", size=len(left), reason=str(failed[0][1]))
            self.state.stalled = str(failed[0][1])
            await delays.wait()

    async def _outward(self, broker: Broker) -> None:
        async def handle(batch: list[Message]) -> list[Rejected]:
            return await self._send(broker, batch)

        await consume(self._bus, OUT, handle, broker.lost, outage=(BrokerAway,))
        raise BrokerAway(broker.reason)

    async def _send(self, broker: Broker, batch: Sequence[Message]) -> list[Rejected]:
        """Send a batch in order; tried again, it leaves out what the broker has confirmed."""
        waiting = [message for message in batch if message.sequence not in self._confirmed]
        sending = (self._send_one(broker, message) for message in waiting)
        outcomes = await asyncio.gather(*sending, return_exceptions=True)
        rejected: list[Rejected] = []
        first_away: BrokerAway | None = None
        for message, outcome in zip(waiting, outcomes, strict=True):
            if isinstance(outcome, BrokerAway):
                if first_away is None:
                    first_away = outcome
                    self._tries[message.sequence] = self._tries.get(message.sequence, 0) + 1
            elif isinstance(outcome, SendRefused):
                rejected.append((message, str(outcome)))
            elif outcome is not None:
                raise outcome
            else:
                self._confirmed.add(message.sequence)
                self.state.sent += 1
        if first_away is not None:
            raise first_away
        self._confirmed.clear()
        self._tries.clear()
        return rejected

    async def _send_one(self, broker: Broker, message: Message) -> None:
        if self._tries.get(message.sequence, 0) >= TRIES:
            raise SendRefused("the broker ends the connection whenever this is sent")
        try:
            destination = subjects.outbound_to(message.subject)
            headers = msgspec.json.decode(message.headers.get(HEADERS, "{}"), type=dict[str, str])
            if ID in message.headers:
                own = message.headers[ID]
            else:
                # From the outbox of a service: it waits in its queue, also when the broker starts again.
                own = message.headers["Nats-Msg-Id"]
                headers["persistent"] = "true"
        except (ValueError, KeyError) as exc:
            raise SendRefused(f"no message for a broker: {exc}") from None
        await broker.send(destination, message.data, {**headers, SLUICE_ID: own})

    async def _watch(self, broker: Broker) -> None:
        """Send a heartbeat through the broker from time to time, and see whether anything comes back."""
        loop = asyncio.get_running_loop()
        under_way: dict[bytes, float] = {}

        def back(body: bytes) -> None:
            sent = under_way.pop(body, None)
            if sent is not None:
                under_way.clear()
                self.state.heard = loop.time()
                self.state.round_trip = self.state.heard - sent

        broker.on_echo(back)
        due = loop.time()
        while True:
            if broker.silence > SILENT:
                raise BrokerAway(f"nothing was heard of the broker for {broker.silence:.0f} s")
            if self._pulse_every and loop.time() >= due and not self.state.stalled:
                if len(under_way) >= DEAF:
                    raise BrokerAway(f"{DEAF} heartbeats through the broker did not come back")
                body = uuid4().hex.encode()
                due = loop.time() + self._pulse_every
                under_way[body] = loop.time()
                try:
                    await broker.send(self._pulse_topic, body, {})
                except SendRefused as exc:
                    raise BrokerAway(f"no heartbeat on {self._pulse_topic}: {exc}") from None
            await asyncio.sleep(LOOK)


async def _lost(event: asyncio.Event) -> None:
    await event.wait()
    raise BrokerAway("another process may have the bridge by now")


def _durable(destination: str) -> str | None:
    # A queue keeps what comes by itself.
    return f"sluice-{token(destination)}" if destination.startswith(TOPIC) else None
