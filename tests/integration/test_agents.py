"""Agents as swf-clients.md has them: scenarios 1, 2 and 4 of its section 12 as far as HTTP goes, also over TLS."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests

from sluice_core.testing import eventually
from tests.integration import agent
from tests.integration.conftest import PREFIX
from tests.integration.platforms import BIN, Client, Up, clean_environment

AGENT = Path(agent.__file__)
AGENTS = "/api/systemagents/"
START = 30.0


def variables(up: Up) -> dict[str, str]:
    """Return what `sluice env` prints, as a shell understands it."""
    script = f'eval "$({BIN}/sluice env --data "$1")" && exec {sys.executable} -c "$2"'
    show = "import json, os; print(json.dumps(dict(os.environ)))"
    done = subprocess.run(
        ["bash", "-ec", script, "bash", up.data, show],
        env=clean_environment(),
        check=True,
        capture_output=True,
        text=True,
    )
    found: dict[str, str] = json.loads(done.stdout)
    return {name: value for name, value in found.items() if name not in os.environ or os.environ[name] != value}


class Process:
    """An agent in a process of its own; what it tells is read by a thread."""

    def __init__(self, environment: dict[str, str], *arguments: str, script: Path = AGENT) -> None:
        self._process = subprocess.Popen(
            [sys.executable, script, *arguments],
            env=clean_environment(**environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.told: list[dict[str, Any]] = []
        self.grumbled = ""
        self._readers = [threading.Thread(target=read) for read in (self._listen, self._grumble)]
        for reader in self._readers:
            reader.start()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def until(self, event: str) -> dict[str, Any]:
        """Wait until it tells an event."""

        def find() -> dict[str, Any]:
            found: dict[str, Any] = next((each for each in self.told if each["event"] == event), {})
            if not found and self._process.poll() is not None:
                raise RuntimeError(f"the agent ended: {self.told} {self.grumbled}")
            return found

        return eventually(find, START)

    def names(self, count: int) -> set[str]:
        """Return the names of its agents when so many are ready; else none."""
        ready = [each["name"] for each in self.told.copy() if each["event"] == "ready"]
        return set(ready) if len(ready) == count else set()

    def requests(self) -> list[tuple[str, str, int | None]]:
        """Return what it has asked for so far."""
        made = [each for each in self.told if each["event"] == "request"]
        return [(each["method"], each["endpoint"], each["status"]) for each in made]

    def end(self, number: int = signal.SIGTERM) -> float:
        """Send a signal; return the seconds that it took to end properly."""
        began = time.monotonic()
        self._process.send_signal(number)
        status = self._process.wait(20)
        took = time.monotonic() - began
        for reader in self._readers:
            reader.join()
        assert (status, self.grumbled) == (0, "")
        return took

    def kill(self) -> None:
        """End it in any case."""
        self._process.kill()
        self._process.wait()
        for reader in self._readers:
            reader.join()
        for pipe in (self._process.stdout, self._process.stderr):
            assert pipe is not None
            pipe.close()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.told.append(json.loads(line))

    def _grumble(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self.grumbled += line


@contextmanager
def living(environment: dict[str, str], *arguments: str) -> Iterator[Process]:
    process = Process(environment, *arguments)
    try:
        yield process
    finally:
        process.kill()


@pytest.fixture(scope="module")
def environment(platform: Up) -> dict[str, str]:
    return variables(platform)


@pytest.fixture(scope="module")
def plain(environment: dict[str, str], platform: Up) -> dict[str, str]:
    """Without TLS."""
    return environment | {"SWF_MONITOR_URL": platform.http}


def find(client: Client, name: str) -> dict[str, Any]:
    """Return an agent, asked for as people do."""
    (found,) = client.get(AGENTS, params={"instance_name": name}).json()
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize("door", ["http", "https"])
def test_1_an_agent_boots_is_listed_and_logs(
    door: str, environment: dict[str, str], platform: Up, client: Client
) -> None:
    url = {"http": platform.http, "https": platform.https}[door]
    with living(environment | {"SWF_MONITOR_URL": url}) as process:
        ready = process.until("ready")
        process.until("logged")
        assert process.requests() == [
            ("POST", "/state/next-agent-id/", 200),
            ("POST", "/subscribers/", 201),
            ("POST", "/systemagents/heartbeat/", 201),
            ("GET", "/systemagents/", 200),
        ]
        listed = ready["listed"]
        assert (listed["status"], listed["operational_state"]) == ("OK", "READY")
        assert (listed["namespace"], listed["hostname"]) == ("ada-test", socket.gethostname())
        assert listed["pid"] == process.pid
        (logged,) = client.get("/api/logs/", params={"instance_name": ready["name"]}).json()
        assert (logged["app_name"], logged["message"]) == ("base_agent", f"{ready['name']} is ready")
        process.end()
        assert find(client, ready["name"])["description"] == "DATA agent. Agent shutdown"


def test_1_an_agent_that_starts_again_has_a_new_number(plain: dict[str, str]) -> None:
    names = []
    for _ in range(2):
        with living(plain) as process:
            names.append(process.until("ready")["name"])
            process.end()
    first, second = (int(name.rpartition("-")[2]) for name in names)
    assert second == first + 1


@pytest.mark.parametrize("number", [signal.SIGQUIT, signal.SIGTERM], ids=lambda number: number.name)
def test_1_a_signal_ends_an_agent_with_an_exited_heartbeat_within_a_second(
    number: signal.Signals, plain: dict[str, str], client: Client
) -> None:
    with living(plain) as process:
        name = process.until("ready")["name"]
        process.until("logged")
        took = process.end(number)
        assert process.requests()[-1] == ("POST", "/systemagents/heartbeat/", 200)
    gone = find(client, name)
    assert (gone["status"], gone["operational_state"]) == ("EXITED", "EXITED")
    assert took < 1, f"{took:.2f} s"


def test_2_an_agent_whose_subscriber_exists_keeps_running(plain: dict[str, str], client: Client) -> None:
    following = client.post("/api/state/next-agent-id/").json()["agent_id"] + 1
    taken = {"subscriber_name": f"data-agent-ada-{following}-/topic/epictopic"}
    assert client.post("/api/subscribers/", taken).status_code == 201
    with living(plain) as process:
        process.until("ready")
        assert ("POST", "/subscribers/", 400) in process.requests()
        process.end()


def test_4_twenty_agents_that_start_at_once_get_twenty_ids(plain: dict[str, str], client: Client) -> None:
    with living(plain, "--kind", "fastmon", "--agents", "20") as process:
        names = eventually(lambda: process.names(20), START)
        assert len(names) == 20
        alive = client.get(AGENTS, params={"agent_type": "fastmon", "status": "OK"}).json()
        assert {each["instance_name"] for each in alive} == names
        process.end()


def test_an_agent_lives_behind_a_prefix_where_nothing_is_open_over_tls(campus: Up) -> None:
    environment = variables(campus)
    assert environment["SWF_MONITOR_URL"].startswith("https://")
    assert environment["SWF_MONITOR_URL"].endswith(PREFIX)
    with living(environment) as process:
        name = process.until("ready")["name"]
        process.until("logged")
        process.end()
    client = campus.client()
    assert find(client, name)["status"] == "EXITED"
    (logged,) = client.get("/api/logs/", params={"instance_name": name}).json()
    assert logged["timestamp"][-6:] in ("-04:00", "-05:00")


@pytest.mark.parametrize("which", ["platform", "campus"])
def test_requests_trusts_the_https_port_by_the_bundle_of_sluice_env_and_only_by_it(
    which: str, request: pytest.FixtureRequest
) -> None:
    up: Up = request.getfixturevalue(which)
    bundle = variables(up)["REQUESTS_CA_BUNDLE"]
    answer = requests.get(f"{up.https}/api/", verify=bundle, timeout=10)
    assert answer.json()["systemagents"] == f"{up.https}/api/systemagents/"
    by_name = up.https.replace("127.0.0.1", "localhost")
    assert requests.get(f"{by_name}/api/", verify=bundle, timeout=10).status_code == 200
    with pytest.raises(requests.exceptions.SSLError):
        requests.get(f"{up.https}/api/", timeout=10)
