"""`sluice up`: the whole platform as one process, found, stopped and taken over."""

import os
import shlex
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import nats
import pytest
import requests

from launcher.tests.support import Up, alive, processes_below, running, sluice
from sluice import up
from sluice_core.cli import Failure
from sluice_core.testing import eventually, eventually_async
from sluice_core.testing.servers import PostgresServer, StartNats

SERVICES = ["logs", "pcs", "registry", "runs", "stream"]
AGENT = {"instance_name": "one", "agent_type": "data", "status": "OK"}


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    with running(tmp_path_factory.mktemp("up") / "data") as up:
        yield up


@pytest.fixture
def http(platform: Up) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=platform.facts["http"], trust_env=False) as client:
        yield client


def authorized(platform: Up) -> dict[str, str]:
    return {"Authorization": f"Token {platform.token}"}


def children(up: Up) -> list[int]:
    return [pid for name, pid in up.facts["pids"].items() if name != "sluice"]


def test_all_services_are_ready_and_observed_on_one_port(platform: Up) -> None:
    with httpx2.Client(base_url=platform.facts["admin"], trust_env=False) as admin:
        report = admin.get("/readyz").json()
        assert report["status"] == "ready"
        assert sorted(report["services"]) == SERVICES
        metrics = admin.get("/metrics").text
        assert admin.get("/logs/readyz").status_code == 200
    for service in SERVICES:
        assert f'sluice_db_pool_size{{service="{service}"}} 4.0' in metrics
        assert f'sluice_bus_connected{{service="{service}"}} 1.0' in metrics


def test_each_path_is_answered_by_its_service(platform: Up, http: httpx2.Client) -> None:
    assert http.get("/api/systemagents/").json() == []
    assert http.get("/api/subscribers/").json() == []
    record = {"app_name": "a", "instance_name": "i", "timestamp": "2026-05-05T10:00:00", "level": 20}
    record |= {"levelname": "INFO", "message": "m", "module": "x", "funcname": "f", "lineno": 1}
    record |= {"process": 1, "thread": 1}
    assert http.post("/api/logs/", json=record).status_code == 201
    assert len(http.get("/api/logs.json").json()) == 1
    lost = http.get("/nobody/claims/this")
    assert (lost.status_code, lost.headers["content-type"]) == (404, "text/html; charset=utf-8")


def test_the_first_token_is_an_admins(platform: Up, http: httpx2.Client) -> None:
    assert http.post("/api/state/next-agent-id/").status_code == 401
    assert http.post("/api/state/next-agent-id/", headers=authorized(platform)).json()["status"] == "success"
    assert http.post("/api/systemagents/", json=AGENT, headers=authorized(platform)).status_code == 201


def test_clients_verify_tls_with_what_env_prints(platform: Up, monkeypatch: pytest.MonkeyPatch) -> None:
    printed = sluice("env", "--data", platform.data)
    assert printed.returncode == 0
    found = dict(line.removeprefix("export ").split("=", 1) for line in printed.stdout.splitlines())
    found = {name: shlex.split(value)[0] for name, value in found.items()}
    assert found["SWF_API_TOKEN"] == platform.token
    assert found["SWF_MONITOR_HTTP_URL"] == platform.facts["http"]
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", found["REQUESTS_CA_BUNDLE"])
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    reply = requests.post(
        f"{found['SWF_MONITOR_URL']}/api/state/next-agent-id/", headers=authorized(platform), timeout=10
    )
    assert reply.json()["status"] == "success"
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    with pytest.raises(requests.exceptions.SSLError):
        requests.get(f"{found['SWF_MONITOR_URL']}/api/", timeout=10)


async def test_the_bus_is_not_open_and_programs_may_only_hand_in(platform: Up) -> None:
    host, port = platform.facts["nats"].removeprefix("nats://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as stranger:
        stranger.sendall(b"CONNECT {}\r\nPING\r\n")
        assert b"Authorization Violation" in stranger.makefile("rb").read()
    url = dict(
        line.removeprefix("export ").split("=", 1)
        for line in sluice("env", "--data", platform.data).stdout.splitlines()
    )["NATS_URL"]
    refused: list[Exception] = []

    async def note(error: Exception) -> None:
        refused.append(error)

    program = await nats.connect(shlex.split(url)[0], error_cb=note)
    await program.publish("agents.in.heartbeat._.one", b"{}")
    await program.flush()
    assert not refused
    await program.publish("$KV.keys.forged", b"{}")
    # The server says so when it gets to it, and the client tells it from a task of its own.
    await eventually_async(lambda: "permissions violation" in str(refused).lower())
    await program.close()


def test_the_command_line_finds_the_platform_by_itself(platform: Up) -> None:
    env = {"SLUICE_DATA": str(platform.data)}
    assert '"status": "ready"' in sluice("status", "--json", env=env).stdout
    shown = sluice("status", env=env)
    assert (shown.returncode, platform.facts["http"] in shown.stdout) == (0, True)
    assert sluice("agents", "--json", env=env).returncode == 0
    made = sluice("token", "create", "shifter", "--create-user", env=env)
    assert made.returncode == 0, made.stderr
    with httpx2.Client(base_url=platform.facts["http"], trust_env=False) as http:
        headers = {"Authorization": f"Token {made.stdout.strip()}"}
        assert http.get("/api/systemagents/", headers=headers).status_code == 200


def test_no_secret_is_told_by_up_json_or_by_what_was_logged(platform: Up) -> None:
    told = (platform.data / "up.json").read_text() + platform.said()
    assert platform.token not in told
    for password in eventually(lambda: (platform.data / "passwords.json").read_text()).split('"')[3::4]:
        assert password not in told


def test_a_second_platform_on_the_same_data_is_refused_in_one_sentence(platform: Up) -> None:
    second = Up(platform.data)
    assert second.process.wait(60) == 2
    assert second.said() == (
        f"sluice: {platform.data} is in use by process {platform.process.pid}; "
        "stop that one, or choose another directory with --data\n"
    )
    second.close()


def test_the_python_process_stays_small(platform: Up) -> None:
    status = Path(f"/proc/{platform.process.pid}/status").read_text()
    (resident,) = [int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:")]
    assert resident < 250 * 1024


def test_it_ends_in_time_with_connections_open_and_starts_again_with_all_it_had(
    platform: Up, http: httpx2.Client
) -> None:
    token = platform.token
    assert http.get("/api/systemagents/").json()[0]["instance_name"] == "one"
    servers = children(platform)
    began = time.monotonic()
    assert platform.end() == 0
    assert time.monotonic() - began < 5
    assert not any(alive(server) for server in servers)
    assert not (platform.data / "up.json").exists()
    with running(platform.data, env={"SLUICE_BASE_PATH": "/swf-monitor"}) as again:
        assert again.token == token
        # The certificate is the same, and names and redirects carry the prefix.
        bundle = shlex.split(sluice("env", "--data", again.data).stdout.splitlines()[3].partition("=")[2])[0]
        session = requests.Session()
        session.trust_env = False
        session.verify = bundle
        assert session.get(f"{again.facts['https']}/api/systemagents/").json()[0]["instance_name"] == "one"
        index = session.get(f"{again.facts['https']}/api/").json()
        assert index["systemagents"] == f"{again.facts['https']}/api/systemagents/"
        redirect = session.get(f"{again.facts['http']}/api/systemagents", allow_redirects=False)
        assert (redirect.status_code, redirect.headers["location"]) == (301, "/swf-monitor/api/systemagents/")
        outside = session.get(again.facts["http"].removesuffix("/swf-monitor") + "/api/systemagents/")
        assert outside.status_code == 404


def test_after_kill_9_nothing_is_left_running_and_the_data_is_taken_over(tmp_path: Path) -> None:
    with running(tmp_path / "data", "--only", "registry") as up:
        servers = children(up)
        with httpx2.Client(base_url=up.facts["http"], headers=authorized(up), trust_env=False) as http:
            assert http.post("/api/systemagents/", json=AGENT).status_code == 201
            up.end(signal.SIGKILL)
        eventually(lambda: not any(alive(server) for server in servers))
        assert sluice("status", "--data", up.data).returncode == 2
        with running(up.data, "--only", "registry") as again:
            reply = requests.get(f"{again.facts['http']}/api/systemagents/", timeout=10)
            assert [agent["instance_name"] for agent in reply.json()] == ["one"]


@pytest.mark.parametrize("server", ["postgresql", "nats"])
def test_it_ends_with_a_sentence_when_a_server_of_its_own_dies(tmp_path: Path, server: str) -> None:
    with running(tmp_path / "data", "--only", "registry") as up:
        os.kill(up.facts["pids"][server], signal.SIGKILL)
        assert up.process.wait(30) == 2
        assert f"{tmp_path}/data/{'postgres' if server == 'postgresql' else 'nats'}/log" in up.said().splitlines()[-1]


def test_it_can_be_stopped_while_it_starts(tmp_path: Path) -> None:
    up = Up(tmp_path / "data")
    eventually((tmp_path / "data" / "postgres").exists, 60)
    up.end()
    up.close()
    eventually(lambda: not processes_below(tmp_path))


def test_servers_of_others_can_be_used(tmp_path: Path, postgres_server: PostgresServer, start_nats: StartNats) -> None:
    bus = start_nats()
    options = ("--postgres", postgres_server.admin_url, "--nats", bus.url(), "--only", "registry", "--only", "logs")
    with running(tmp_path / "data", *options) as up:
        assert up.facts["services"] == ["registry", "logs"]
        assert list(up.facts["pids"]) == ["sluice"]
        assert requests.get(f"{up.facts['http']}/api/logs/", timeout=10).json() == []
        assert postgres_server.admin_url.split("@")[0] not in (tmp_path / "data" / "up.json").read_text()
        assert up.end() == 0


def options(data: Path, **changes: object) -> up.Options:
    given: dict[str, object] = {"data": data, "host": "127.0.0.1", "http": 0, "https": 0, "admin": 0, "nats_port": 0}
    given |= {
        "stomp": 0,
        "stomp_tls": None,
        "tls_cert": None,
        "tls_key": None,
        "postgres": None,
        "nats": None,
        "only": (),
        "as_json": True,
    }
    return up.Options(**{**given, **changes})  # type: ignore[arg-type]


@pytest.fixture
def _sigterm() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.usefixtures("_sigterm")
@pytest.mark.parametrize("port", ["http", "https", "admin", "stomp", "stomp_tls"])
def test_a_busy_port_is_named_with_its_option(tmp_path: Path, port: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        with pytest.raises(
            Failure, match=rf"port {number} of 127.0.0.1 is in use .* choose another with --{port.replace('_', '-')} "
        ):
            up.run(options(tmp_path, **{port: number}))


@pytest.mark.usefixtures("_sigterm")
@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"only": ["nobody"]}, "there is no service 'nobody'; installed: logs, pcs, registry, runs, stream"),
        ({"only": ["registry"]}, "--stomp and --stomp-tls need the service stream"),
        ({"tls_cert": Path("cert.pem")}, "--tls-cert and --tls-key belong together"),
        ({"tls_cert": Path("absent.pem"), "tls_key": Path("absent.pem")}, "absent.pem cannot be read"),
        ({"tls_cert": Path(__file__), "tls_key": Path(__file__)}, "are no certificate and its private key"),
        ({"postgres": "postgresql://a:hunter2@127.0.0.1:1/x", "nats": "nats://127.0.0.1:1"}, "no login at"),
        ({"postgres": "mysql://a:hunter2@127.0.0.1/x"}, "--postgres: a PostgreSQL URL is postgresql://"),
        ({"postgres": "postgresql://a:hunter2/3@127.0.0.1/x"}, "--postgres: a PostgreSQL URL is postgresql://"),
        ({"nats": "a:hunter2@127.0.0.1:4222"}, "--nats: a NATS URL is nats://"),
        ({"nats": "nats://a:hunter2@127.0.0.1:port"}, "--nats: a NATS URL is nats://"),
    ],
)
def test_what_cannot_work_is_said_in_one_sentence(tmp_path: Path, changes: dict[str, object], sentence: str) -> None:
    with pytest.raises(Failure, match=sentence) as failure:
        up.run(options(tmp_path, **changes))
    assert "hunter2" not in str(failure.value)
