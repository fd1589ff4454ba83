"""``/api/dlq/`` and ``sluice dlq``."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import nats as nats_py
import pytest
import sqlalchemy as sa
from starlette.testclient import TestClient
from typer.testing import CliRunner

from sluice_core import dlq
from sluice_core.bus import Bus
from sluice_core.bus.permissions import PROGRAMS
from sluice_core.cli import Failure
from sluice_core.testing import eventually
from sluice_core.testing.apps import AppMaker
from sluice_core.testing.tokens import Tokens
from sluice_stream import cli
from sluice_stream.letters import Letters
from sluice_stream.tables import dead_letter

from .conftest import Run
from .work import SECRET, Nats, Stream

URL = "/api/dlq/"
UNKNOWN = "11111111-2222-4333-8444-555555555555"


def bury(nats: Nats, subject: str, data: bytes, *, reason: str, user: str = "logs", **headers: str) -> None:
    """Park a message as a service does."""

    async def work(bus: Bus) -> None:
        await dlq.bury(bus, subject, data, msg_id=uuid4().hex, headers=headers, reason=reason)

    nats.run(work, user)


def one(stream: Stream) -> dict[str, Any]:
    """Wait for the only letter, and return it whole."""
    eventually(lambda: len(stream.letters()) == 1)
    found: dict[str, Any] = stream.http.get(f"{stream.url}{URL}{stream.letters()[0]['id']}/", timeout=10).json()
    return found


def test_what_anybody_parked_is_listed_with_its_reason_and_kept_whole(run: Run, nats: Nats) -> None:
    stream = run()
    bury(
        nats,
        "logs.in.app.host",
        b'{"level": 99}',
        reason="record 0: level",
        **{"Sluice-Schema": "x", dlq.STREAM: "LOGS"},
    )
    letter = one(stream)
    assert (letter["stream"], letter["subject"], letter["reason"]) == ("LOGS", "logs.in.app.host", "record 0: level")
    assert (letter["encoding"], letter["data"], letter["size"]) == ("utf-8", '{"level": 99}', 13)
    assert letter["headers"]["Sluice-Schema"] == "x"
    assert "data" not in stream.letters()[0]
    assert datetime.now(UTC) - datetime.fromisoformat(letter["at"]) < timedelta(minutes=1)


def test_the_list_is_narrowed_by_stream_reason_and_age_and_comes_in_pages(run: Run, nats: Nats) -> None:
    stream = run()
    for number in range(5):
        bury(nats, "logs.in.a.b", b"\xff", reason=f"bad 100% {number}", **{dlq.STREAM: "LOGS" if number else "AUDIT"})
    eventually(lambda: len(stream.letters()) == 5)
    assert [letter["reason"][-1] for letter in stream.letters()] == list("43210")
    assert len(stream.letters(stream="LOGS")) == 4
    assert len(stream.letters(reason="BAD 100%")) == 5
    assert len(stream.letters(reason="% 3")) == 1
    assert len(stream.letters(reason="_")) == 0
    assert stream.letters(older="1h") == []
    assert len(stream.letters(younger="1h")) == 5
    seen, url = [], f"{stream.url}{URL}?limit=2"
    while url:
        page = stream.http.get(url, timeout=10)
        seen += page.json()
        url = page.links.get("next", {}).get("url", "")
    assert seen == stream.letters()
    whole = stream.http.get(f"{stream.url}{URL}{seen[0]['id']}/", timeout=10).json()
    assert (whole["encoding"], whole["data"]) == ("base64", "/w==")


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "older=soon", "younger=-1h", "older=36501d", "after=x"])
def test_a_parameter_that_cannot_be_read_is_400(client: TestClient, tokens: Tokens, query: str) -> None:
    reply = client.get(f"{URL}?{query}", headers=tokens.header("dlq:read"))
    assert reply.status_code == 400
    assert reply.json()["errors"][0]["field"] == query.partition("=")[0]


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [
        ("GET", URL, "dlq:read"),
        ("GET", f"{URL}{UNKNOWN}/", "dlq:read"),
        ("POST", f"{URL}{UNKNOWN}/replay/", "dlq:admin"),
        ("POST", f"{URL}replay/", "dlq:admin"),
        ("DELETE", f"{URL}{UNKNOWN}/", "dlq:admin"),
    ],
)
def test_who_may_do_what(client: TestClient, tokens: Tokens, method: str, path: str, scope: str) -> None:
    assert client.request(method, path, json={}).status_code == 401
    other = {"dlq:read": "dlq:admin", "dlq:admin": "dlq:read"}[scope]
    assert client.request(method, path, json={}, headers=tokens.header(other)).status_code == 403
    allowed = client.request(method, path, json={}, headers=tokens.header(scope))
    assert allowed.status_code == (404 if len(path) > 30 else 200)


def test_a_letter_sent_again_reaches_its_stream_and_is_none_any_more(run: Run, nats: Nats) -> None:
    stream = run()
    bury(nats, "logs.in.app.host", b"{}", reason="no room", **{"Sluice-Schema": "x", dlq.STREAM: "LOGS"})
    letter = one(stream)
    path = f"{stream.url}{URL}{letter['id']}/"
    assert stream.http.post(f"{path}replay/", timeout=10).status_code == 204
    assert nats.stored("LOGS") == 1
    assert stream.letters() == []
    assert stream.http.post(f"{path}replay/", timeout=10).status_code == 404


def test_a_recorded_message_sent_again_is_no_second_row(run: Run, nats: Nats) -> None:
    stream = run()
    sent = stream.send({"msg_type": "x"}).json()
    stream.recorded(1)
    headers = {
        "Sluice-Id": sent["id"],
        "Sluice-Destination": "/topic/epictopic",
        "Sluice-At": "2026-05-05T10:00:00+00:00",
    }
    bury(
        nats,
        "messages.accepted._.x",
        b'{"msg_type":"x"}',
        reason="x",
        user="stream",
        **headers,
        **{dlq.STREAM: "MESSAGES"},
    )
    letter = one(stream)
    assert stream.http.post(f"{stream.url}{URL}{letter['id']}/replay/", timeout=10).status_code == 204
    assert nats.stored("MESSAGES") == 2
    stream.send({"msg_type": "y"})
    eventually(lambda: stream.rows()[-1]["message_type"] == "y")
    assert len(stream.rows()) == 2


def test_what_nobody_could_read_stays_and_what_they_now_can_comes_in(run: Run, nats: Nats) -> None:
    stream = run()
    bury(nats, "messages.in.epictopic", b"rubbish", reason="not JSON", user="stream", **{dlq.STREAM: "INBOUND"})
    letter = one(stream)
    path = f"{stream.url}{URL}{letter['id']}/"
    refused = stream.http.post(f"{path}replay/", timeout=10)
    assert (refused.status_code, refused.json()["detail"]) == (409, "Nobody could take it: not JSON")
    assert stream.http.delete(path, timeout=10).status_code == 204
    assert stream.http.delete(path, timeout=10).status_code == 404
    bury(nats, "messages.in.epictopic", b'{"msg_type":"x"}', reason="too early", user="stream")
    assert stream.http.post(f"{stream.url}{URL}{one(stream)['id']}/replay/", timeout=10).status_code == 204
    assert stream.recorded(1)[0]["queue_name"] == "epictopic"


def test_all_that_is_chosen_is_sent_again_and_the_rest_is_told(run: Run, nats: Nats) -> None:
    stream = run()
    for subject in ("logs.in.a.b", "outbound.x", "audit.logs", "agents.state._.x"):
        bury(nats, subject, b"{}", reason="why", **{dlq.STREAM: "X"})
    eventually(lambda: len(stream.letters()) == 4)
    none = stream.http.post(f"{stream.url}{URL}replay/", json={"stream": "Y"}, timeout=10).json()
    assert none == {"replayed": 0, "refused": {}}
    done = stream.http.post(f"{stream.url}{URL}replay/", json={"stream": "X", "limit": 10}, timeout=10).json()
    assert done["replayed"] == 2
    assert set(done["refused"].values()) == {
        "What was on audit.logs is not sent again.",
        "What was on agents.state._.x is not sent again.",
    }
    assert {letter["id"] for letter in stream.letters()} == set(done["refused"])
    assert (nats.stored("LOGS"), nats.stored("OUTBOUND")) == (1, 1)


def test_a_program_cannot_have_an_administrator_write_for_it(run: Run, nats: Nats) -> None:
    """It may publish on ``dlq.in.>``, with any header."""
    stream = run()

    async def forge() -> None:
        client = await nats_py.connect(nats.server.url(PROGRAMS, SECRET))
        await client.publish("dlq.in.x", b"forged", headers={dlq.SUBJECT: "logs.accepted", dlq.REASON: "please replay"})
        await client.drain()

    asyncio.run(forge())
    letter = one(stream)
    assert letter["subject"].startswith("in.x")
    assert stream.http.post(f"{stream.url}{URL}{letter['id']}/replay/", timeout=10).status_code == 409
    assert nats.stored("LOGS") == 0


def test_letters_are_deleted_by_age_and_beyond_their_number(make_app: AppMaker) -> None:
    service = make_app().state.service
    letters = Letters(service.database, service.bus, None, retention=timedelta(days=1), most=3)  # type: ignore[arg-type]
    rows = [
        {"id": uuid4(), "at": datetime.now(UTC) - timedelta(hours=age), "headers": {}, "data": b"", "size": 0}
        | dict.fromkeys(("stream", "subject", "reason"), "x")
        for age in (0, 1, 2, 3, 25)
    ]
    service.database.transact(lambda connection: connection.execute(sa.insert(dead_letter), rows))
    assert letters.forget() == 2
    assert letters.forget() == 0
    left = service.database.read(lambda connection: connection.execute(sa.select(dead_letter.c.id)).scalars().all())
    assert set(left) == {row["id"] for row in rows[:3]}
    service.database.close()


def test_people_look_at_letters_and_send_them_again_by_command(
    run: Run, nats: Nats, tokens: Tokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = run()
    monkeypatch.setenv("SLUICE_URL", stream.url)
    monkeypatch.setenv("SLUICE_TOKEN", tokens.header("admin")["Authorization"].removeprefix("Token "))
    runner = CliRunner()
    bury(nats, "logs.in.app.host", b'{"level": 99}', reason="record 0: level", **{dlq.STREAM: "LOGS"})
    letter = one(stream)["id"]
    listed = runner.invoke(cli.dlq, ["list", "--stream", "LOGS", "--json"])
    assert [row["id"] for row in json.loads(listed.stdout)] == [letter]
    assert "record 0: level" in runner.invoke(cli.dlq, ["list"]).stdout
    shown = runner.invoke(cli.dlq, ["show", letter])
    assert '{"level": 99}' in shown.stdout
    assert json.loads(runner.invoke(cli.dlq, ["show", letter, "--json"]).stdout)["id"] == letter
    assert runner.invoke(cli.dlq, ["replay", letter]).stdout == f"{letter} sent again\n"
    assert nats.stored("LOGS") == 1
    gone = runner.invoke(cli.dlq, ["delete", letter])
    assert gone.exit_code == 1
    assert "404" in gone.stderr
    bury(nats, "audit.logs", b"{}", reason="no audit record")
    refused = one(stream)["id"]
    every = runner.invoke(cli.dlq, ["replay", "--all", "--younger", "1h"])
    assert (every.exit_code, every.stdout) == (1, "0 sent again\n")
    assert f"{refused} stays" in every.stderr
    assert runner.invoke(cli.dlq, ["delete", refused]).exit_code == 0
    sent = runner.invoke(cli.messages, ["send", '{"msg_type": "hello"}', "--json"])
    assert sent.exit_code == 0, sent.output
    assert stream.recorded(1)[0]["message_id"] == json.loads(sent.stdout)["id"]
    piped = runner.invoke(cli.messages, ["send", "-", "--to", "/topic/epictopic"], input='{"msg_type": "piped"}')
    assert piped.stdout.endswith(" to /topic/epictopic\n")


@pytest.mark.parametrize("arguments", [["send", "rubbish"], ["send", "[1]"], ["send", "{}", "-H", "x"], ["send", "-"]])
def test_what_is_no_message_is_not_sent(arguments: list[str]) -> None:
    assert isinstance(CliRunner().invoke(cli.messages, arguments).exception, Failure)


@pytest.mark.parametrize("arguments", [["replay"], ["replay", "--all", UNKNOWN], ["show", "x"], ["delete", "../x"]])
def test_what_names_no_letter_is_not_asked(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLUICE_URL", "http://127.0.0.1:1")
    assert isinstance(CliRunner().invoke(cli.dlq, arguments).exception, Failure)
