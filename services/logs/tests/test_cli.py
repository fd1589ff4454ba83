"""``sluice logs``, against a service behind a real port."""

import itertools
import json
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import requests
import typer
from structlog.testing import capture_logs
from typer.testing import CliRunner, Result

from sluice_core.cli import Api, Failure, Refusal
from sluice_core.testing.apps import AppMaker
from sluice_core.testing.serving import serving
from sluice_logs import cli

from .records import URL, record

Run = Callable[..., Result]


@pytest.fixture
def platform(make_app: AppMaker, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    # The service lives in the process whose output the tests look at.
    with capture_logs(), serving(make_app()) as served:
        monkeypatch.setenv("SLUICE_URL", served.url)
        monkeypatch.delenv("SLUICE_TOKEN", raising=False)
        yield served.url


@pytest.fixture
def run() -> Run:
    # As the launcher does it.
    app = typer.Typer()
    app.add_typer(cli.commands, name="logs")
    return lambda *arguments: CliRunner().invoke(app, ["logs", *arguments])


def post(platform: str, **given: Any) -> None:
    assert requests.post(f"{platform}{URL}", json=record(**given), timeout=10).status_code == 201


def ago(minutes: int) -> str:
    return (datetime.now(UTC) - timedelta(minutes=minutes)).isoformat()


def test_records_are_shown_with_the_newest_last(platform: str, run: Run) -> None:
    post(platform, message="second", timestamp=ago(5), level=40, levelname="ERROR")
    post(platform, message="first", timestamp=ago(15), instance_name="daq-8")
    post(platform, message="third", timestamp=ago(1), extra_data={"run_id": 7, "execution_id": "e-1", "username": "bo"})
    lines = run().stdout.splitlines()
    assert [line.split()[4] for line in lines] == ["first", "second", "third"]
    assert lines[1].split()[2:4] == ["ERROR", "daq-7"]
    assert lines[1].endswith("base_agent:send_heartbeat:311")

    def shown(*arguments: str) -> list[str]:
        return [row["message"] for row in json.loads(run(*arguments, "--json").stdout)]

    assert shown("--since", "10m") == ["second", "third"]
    assert shown("--until", "10m") == ["first"]
    assert shown("--level", "warning") == ["second"]
    assert shown("--instance", "daq-8", "--app", "base_agent") == ["first"]
    assert shown("--grep", "third or first") == ["first", "third"]
    assert shown("--run", "7", "--execution", "e-1", "--user", "bo") == ["third"]
    assert shown("-n", "1") == ["third"]


def test_a_message_cannot_write_on_the_terminal_nor_is_it_markup(platform: str, run: Run) -> None:
    post(platform, message="\x1b[2J[red]odd\x9b \x07", timestamp=ago(1))
    assert r"\x1b[2J[red]odd\x9b \x07" in run().stdout


def test_what_cannot_be_meant_is_said(platform: str, run: Run) -> None:
    for arguments in (["--since", "often"], ["-f", "--until", "1m"], ["--level", "loud"]):
        assert isinstance(run(*arguments).exception, Failure)


def test_following_shows_the_newest_and_then_what_comes_once(platform: str) -> None:
    post(platform, message="before", timestamp=ago(1))
    wanted = {"instance_name": "daq-7"}
    with Api(platform) as api:
        rows = cli.following(api, wanted, None, 10)
        assert next(rows)["message"] == "before"

        def go_on() -> None:
            for number in range(3):
                post(platform, message=str(number), timestamp=ago(0))

        late = threading.Thread(target=go_on)
        late.start()
        assert [row["message"] for row in itertools.islice(rows, 3)] == ["0", "1", "2"]
        late.join()
        rows.close()  # type: ignore[attr-defined]


def test_following_survives_a_break_and_misses_nothing(make_app: AppMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    with capture_logs(), Api("http://127.0.0.1:1") as api:
        with serving(make_app()) as first:
            api.url = first.url
            rows = cli.following(api, {}, None, 10)
            post(first.url, message="before", timestamp=ago(2))
            assert next(rows)["message"] == "before"
        with serving(make_app()) as second:
            post(second.url, message="meanwhile", timestamp=ago(1))
            monkeypatch.setattr("sluice_core.cli.time.sleep", lambda _: setattr(api, "url", second.url))
            assert next(rows)["message"] == "meanwhile"
            rows.close()  # type: ignore[attr-defined]


def test_a_refused_stream_is_not_asked_for_again(platform: str) -> None:
    with Api(platform) as api, pytest.raises(Refusal):
        next(cli.following(api, {"level": "x"}, None, 10))
