"""Who comes back gets what it missed, once and in order, or is told that it cannot."""

import threading

import pytest

from sluice_core.testing import NatsServer, eventually
from sluice_core.testing.apps import AppMaker
from sluice_core.testing.serving import serving

from .conftest import Event, Follow, Publisher


def numbers(events: list[Event]) -> list[int]:
    return [event.data["n"] for event in events]


def bodies(first: int, last: int) -> list[dict[str, object]]:
    return [{"msg_type": "even" if n % 2 == 0 else "odd", "n": n} for n in range(first, last)]


@pytest.mark.parametrize("way", ["header", "parameter"])
def test_a_client_that_comes_back_gets_what_it_missed(
    make_app: AppMaker, nats_server: NatsServer, publish: Publisher, follow: Follow, way: str
) -> None:
    with serving(make_app(nats_url=nats_server.url())) as served:
        client = follow(served.url, "?msg_types=odd")
        publish.many(bodies(0, 10))
        assert numbers(client.take(5)) == [1, 3, 5, 7, 9]
        client.close()
        publish.many(bodies(10, 20))
        last = client.last_id
        again = (
            follow(served.url, "?msg_types=odd", last=last)
            if way == "header"
            else follow(served.url, f"?msg_types=odd&after={last}")
        )
        assert again.last_id == last
        publish.many(bodies(20, 30))
        assert numbers(again.take(10)) == list(range(11, 30, 2))


def test_what_no_process_keeps_comes_from_the_stream(
    make_app: AppMaker, nats_server: NatsServer, publish: Publisher, follow: Follow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the header wins over the parameter, which a browser repeats as it was."""
    monkeypatch.setattr("sluice_stream.sse.feed.WARM", 3)
    publish("before", n=-1)
    with serving(make_app(nats_url=nats_server.url())) as served:
        first = follow(served.url).last_id
    publish.many(bodies(0, 300))
    with serving(make_app(nats_url=nats_server.url())) as served:
        client = follow(served.url, "?after=1-1", last=first)
        publish.many(bodies(300, 310))
        assert numbers(client.take(310)) == list(range(310))


def test_no_gap_and_no_double_while_messages_arrive(
    make_app: AppMaker, nats_server: NatsServer, publish: Publisher, follow: Follow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Replays from the stream and from memory go over into what comes live, for many clients at once."""
    monkeypatch.setattr("sluice_stream.sse.hub.RECENT", 50)
    monkeypatch.setattr("sluice_stream.sse.feed.WARM", 50)
    publish("start", n=-1)
    with serving(make_app(nats_url=nats_server.url())) as served:
        start = follow(served.url).last_id
    publish.many(bodies(0, 800))
    with serving(make_app(nats_url=nats_server.url())) as served:
        publishing = threading.Thread(target=publish.many, args=(bodies(800, 1600),))
        publishing.start()
        clients = [follow(served.url, last=start) for _ in range(4)]
        publishing.join()
        clients += [follow(served.url, last=start) for _ in range(2)]
        for client in clients:
            assert numbers(client.take(1600)) == list(range(1600))


def test_an_id_that_is_none_of_ours_is_a_reset_and_no_refusal(
    make_app: AppMaker, nats_server: NatsServer, publish: Publisher, follow: Follow
) -> None:
    ids = ["garbage", "0-5", "ffff-0", "1-2-3", "\xe9", "9" * 400, "1-99999999999999999999"]
    with serving(make_app(nats_url=nats_server.url())) as served:
        publish("before", n=1)
        clients = [follow(served.url, last=last) for last in ids]
        resets = [client.next() for client in clients]
        assert [(reset.name, reset.data) for reset in resets] == len(ids) * [("reset", {"reason": "unknown"})]
        sequence = publish("after", n=2)
        for client, reset in zip(clients, resets, strict=True):
            event = client.next()
            assert event.data["n"] == 2
            assert event.id == f"{reset.id.partition('-')[0]}-{sequence}"


def test_an_id_that_is_not_there_yet_is_a_reset(
    make_app: AppMaker, nats_server: NatsServer, publish: Publisher, follow: Follow
) -> None:
    with serving(make_app(nats_url=nats_server.url())) as served:
        epoch = follow(served.url).last_id.partition("-")[0]
        assert follow(served.url, last=f"{epoch}-7000").next().data == {"reason": "unknown"}
        assert follow(served.url, last=f"{epoch}-9999999999999999999").next().data == {"reason": "unknown"}


def test_what_has_left_the_stream_is_a_reset(
    make_app: AppMaker, nats_server: NatsServer, publish: Publisher, follow: Follow
) -> None:
    with serving(make_app(nats_url=nats_server.url())) as served:
        old = follow(served.url).last_id
    publish.many(bodies(0, 20))
    publish.forget(10)
    with serving(make_app(nats_url=nats_server.url())) as served:
        client = follow(served.url, last=old)
        assert client.next().data == {"reason": "expired"}
        publish("live", n=20)
        assert client.next().data["n"] == 20
        # From the oldest that is there, nothing is missing.
        epoch = old.partition("-")[0]
        assert numbers(follow(served.url, last=f"{epoch}-9").take(12)) == [*range(9, 20), 20]


def test_a_replay_is_capped(
    make_app: AppMaker, nats_server: NatsServer, publish: Publisher, follow: Follow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sluice_stream.sse.feed.WARM", 1)
    with serving(make_app(nats_url=nats_server.url())) as served:
        old = follow(served.url).last_id
    publish.many(bodies(0, 20))
    with serving(make_app(nats_url=nats_server.url(), sse_replay=10)) as served:
        client = follow(served.url, last=old)
        assert client.next().data == {"reason": "too_many"}
        epoch = old.partition("-")[0]
        assert numbers(follow(served.url, last=f"{epoch}-10").take(10)) == list(range(10, 20))


def test_a_stream_that_is_made_anew_is_a_new_epoch(
    make_app: AppMaker, nats_server: NatsServer, publish: Publisher, follow: Follow
) -> None:
    with serving(make_app(nats_url=nats_server.url())) as served:
        plain, resuming = follow(served.url), follow(served.url, "?extras=1")
        old = [publish("a", n=n) for n in range(5)]
        assert numbers(resuming.take(5)) == numbers(plain.take(5)) == old_numbers(old)
        last = resuming.last_id
        publish.make_anew()
        publish("b", n=5)
        # Who never heard of resets gets none.
        assert plain.next().data["n"] == 5
        reset, event = resuming.take(2)
        assert (reset.name, reset.data) == ("reset", {"reason": "unknown"})
        assert event.data["n"] == 5
        assert event.id.partition("-")[0] != last.partition("-")[0]
        again = follow(served.url, last=last)
        assert again.next().data == {"reason": "unknown"}
        publish("c", n=6)
        assert again.next().data["n"] == 6


def old_numbers(sequences: list[int]) -> list[int]:
    return [sequence - 1 for sequence in sequences]


def test_nats_killed_and_started_again_costs_a_client_nothing(
    make_app: AppMaker, nats_server: NatsServer, publish: Publisher, follow: Follow
) -> None:
    with serving(make_app(nats_url=nats_server.url())) as served:
        client = follow(served.url)
        publish.many(bodies(0, 50))
        nats_server.kill()
        nats_server.start()
        eventually(lambda: publish.connected, timeout=30)
        publish.many(bodies(50, 100))
        assert numbers(client.take(100)) == list(range(100))


def test_clients_of_a_process_that_ends_go_on_elsewhere_without_loss_and_double(
    make_app: AppMaker, nats_server: NatsServer, publish: Publisher, follow: Follow
) -> None:
    with serving(make_app(nats_url=nats_server.url())) as other:
        with serving(make_app(nats_url=nats_server.url())) as served:
            clients = [follow(served.url) for _ in range(5)]
            publishing = threading.Thread(target=publish.many, args=(bodies(0, 1500),))
            publishing.start()
            got = [client.take(10) for client in clients]
        # The first process has ended, in the middle of it all.
        for client, events in zip(clients, got, strict=True):
            events += client.until_end()
        publishing.join()
        for client, events in zip(clients, got, strict=True):
            again = follow(other.url, last=client.last_id)
            assert numbers(events + again.take(1500 - len(events))) == list(range(1500))
