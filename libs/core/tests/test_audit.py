"""Which requests are recorded, and how records wait for NATS."""

import asyncio
from base64 import b64decode
from collections.abc import AsyncIterator

import msgspec
import pytest

from sluice_core.audit import Event, Note, Place, Trail
from sluice_core.auth import Identity
from sluice_core.bus import AUDIT, Bus, BusAway, PubAck
from sluice_core.testing import NatsServer, eventually_async

ADA = Identity("ada", frozenset(), "t1")


@pytest.mark.parametrize(
    ("method", "status", "noted", "recorded"),
    [
        ("POST", 201, Note(ADA), True),
        ("POST", 400, Note(ADA), True),
        ("DELETE", 500, Note(ADA), True),
        ("PUT", 0, Note(ADA), True),
        ("POST", 403, Note(), True),
        ("POST", 200, Note(ADA, routine=True), False),
        ("POST", 503, Note(ADA, routine=True), False),
        ("POST", 403, Note(ADA, routine=True), True),
        ("POST", 403, Note(routine=True), True),
        ("GET", 200, Note(ADA), False),
        ("GET", 403, Note(), False),
        ("GET", 403, Note(ADA), True),
        ("GET", 401, Note(refused=True), True),
        ("OPTIONS", 429, Note(refused=True), True),
        ("WEBSOCKET", None, Note(ADA), False),
        ("WEBSOCKET", None, Note(refused=True), True),
        ("POST", 201, Note(ADA, kept=True), False),
        ("POST", 401, Note(refused=True, kept=True), False),
    ],
)
def test_changes_and_refused_credentials_are_recorded_and_nothing_else(
    method: str, status: int | None, noted: Note, recorded: bool
) -> None:
    assert noted.matters(method, status, known=True) is recorded


def test_where_there_is_no_route_nothing_was_changed() -> None:
    assert not Note(ADA).matters("POST", 404, known=False)


class Service:
    """The trail of a service, and what has arrived in the stream."""

    def __init__(self, url: str) -> None:
        self.bus = Bus(url, name="registry", keeps=[AUDIT])
        self.trail = Trail(self.bus, "logs", kept=4)
        self.stop = asyncio.Event()

    def act(self, user: str, *, method: str = "POST", words: str = "k", key: str = "", status: int = 200) -> None:
        noted = Note(Identity(user, frozenset(), "t1") if user else None, key=key)
        noted.place = lambda: Place(method, "/api/x/{key}/", words, "r1", "::1")
        self.trail.request(noted, status)

    async def stored(self) -> list[str]:
        """Return the users of all records, as many as the stream has."""
        session = await self.bus.session(5)
        count: int = (await session.api("STREAM.INFO.AUDIT"))["state"]["messages"]
        users = []
        for number in range(1, count + 1):
            message = (await session.api("STREAM.MSG.GET.AUDIT", {"seq": number}))["message"]
            events = msgspec.json.decode(b64decode(message["data"]), type=list[Event])
            users += [event.data.user for event in events]
        return users


@pytest.fixture
async def service(nats_server: NatsServer) -> AsyncIterator[Service]:
    made = Service(nats_server.url())
    running = asyncio.create_task(made.trail.run(made.stop))
    yield made
    made.stop.set()
    await asyncio.wait_for(running, 5)
    await made.bus.close()


async def test_while_nats_is_away_records_wait_and_those_too_many_are_counted(
    service: Service, nats_server: NatsServer
) -> None:
    nats_server.kill()
    await service.bus.open()
    for number in range(6):
        service.act(f"ada{number}")
    assert (service.trail.waiting, service.trail.dropped) == (4, 2)
    nats_server.start()
    await eventually_async(lambda: service.trail.waiting == 0)
    assert await service.stored() == ["ada0", "ada1", "ada2", "ada3"]


async def test_records_that_come_after_a_lost_answer_are_not_taken_for_those_before(
    service: Service, nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stream has the first batch without our knowing; sent again, it must be the same one."""
    store, answers = service.bus.publish_stored, iter([True])

    async def publish_stored(subject: str, data: bytes, *, msg_id: str) -> PubAck:
        answer = await store(subject, data, msg_id=msg_id)
        if next(answers, False):
            service.act("grace")
            raise BusAway("the answer is lost")
        return answer

    monkeypatch.setattr(service.bus, "publish_stored", publish_stored)
    await service.bus.open()
    await service.bus.wait_connected(5)
    service.act("ada")
    await eventually_async(lambda: service.trail.waiting == 0)
    assert await service.stored() == ["ada", "grace"]


async def test_what_is_left_at_the_end_is_sent_first(service: Service) -> None:
    await service.bus.open()
    await service.bus.wait_connected(5)
    service.act("ada")
    service.stop.set()
    await eventually_async(lambda: service.trail.waiting == 0)
    assert await service.stored() == ["ada"]


async def test_strangers_leave_room_for_those_who_have_a_name() -> None:
    service = Service("nats://127.0.0.1:1")
    for _ in range(10):
        service.act("")
    for _ in range(10):
        service.act("ada")
    events = list(service.trail._waiting)
    assert [event.data.user for event in events] == ["", "", "ada", "ada"]
    assert service.trail.dropped == 16


@pytest.mark.parametrize("status", [0, 200, 204, 301, 400, 401, 403, 404, 409, 429, 500, 503])
def test_what_stands_in_a_path_is_told_only_where_it_was_found(status: int) -> None:
    service = Service("nats://127.0.0.1:1")
    told = "s3cret" if 0 < status < 400 else ""
    service.act("ada", words="s3cret", status=status)
    service.act("ada", words="s3cret", key="found", status=status)
    assert [event.data.key for event in service.trail._waiting] == [told, "found"]


def test_what_cannot_be_kept_and_what_looks_like_a_token_is_taken_out() -> None:
    service = Service("nats://127.0.0.1:1")
    service.act("ada", words="a\0b\ud800 eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJ4In0.c2ln " + "x" * 9000, method="SECRET")
    (event,) = service.trail._waiting
    assert event.data.key.startswith("a\ufffdb? *** xxx")
    assert (len(event.data.key), event.data.method) == (255, "other")
    assert msgspec.json.decode(msgspec.json.encode(event), type=Event) == event
