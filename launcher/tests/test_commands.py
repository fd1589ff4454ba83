"""The commands beside `up`: one service alone, migrations, documents."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from launcher.tests.support import SLUICE, environment, sluice
from sluice import documents
from sluice.services import chosen
from sluice_core.testing.servers import NatsServer


@contextmanager
def serving(service: str, env: dict[str, str]) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    process = subprocess.Popen(
        [SLUICE, "serve", service, "--http", "0", "--admin", "0", "--host", "127.0.0.1"],
        env=environment(env),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        ready = next(line for line in map(json.loads, process.stdout) if line["event"] == "ready")
        yield process, ready
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_one_service_runs_alone_as_in_a_container(
    fresh_database: Callable[[str], str], nats_server: NatsServer, tmp_path: Path
) -> None:
    (tmp_path / "url").write_text(fresh_database("sluice_registry"))
    env = {
        "SLUICE_REGISTRY_DATABASE_URL_FILE": str(tmp_path / "url"),
        "SLUICE_NATS_URL": nats_server.url(),
        "SLUICE_BASE_PATH": "/lab",
    }
    with serving("registry", env) as (process, ready):
        with httpx2.Client(trust_env=False) as http:
            assert ready["http"].endswith("/lab")
            assert http.get(f"{ready['http']}/api/systemagents/").json() == []
            assert http.get(f"{ready['admin']}/healthz").status_code == 200
            assert "service=" not in http.get(f"{ready['admin']}/metrics").text
            began = time.monotonic()
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) == 0
        assert time.monotonic() - began < 5


def test_what_a_service_lacks_is_named_by_its_variable() -> None:
    ended = sluice("serve", "registry", "--http", "0", "--admin", "0")
    assert (ended.returncode, ended.stderr) == (
        2,
        "sluice: SLUICE_REGISTRY_DATABASE_URL (or SLUICE_REGISTRY_DATABASE_URL_FILE) is not set\n",
    )


def test_a_setting_without_the_prefix_of_its_service_is_named_as_it_is() -> None:
    env = {"SLUICE_REGISTRY_DATABASE_URL": "postgresql://nowhere/", "SLUICE_AI_MEMORY_OPEN": "perhaps"}
    ended = sluice("serve", "registry", "--http", "0", "--admin", "0", env=env)
    assert ended.returncode == 2
    assert ended.stderr.startswith("sluice: SLUICE_AI_MEMORY_OPEN: Input should be a valid boolean")


@pytest.mark.parametrize(
    ("env", "sentence"),
    [
        ({"SLUICE_TIMEZONE": "Mars"}, "SLUICE_TIMEZONE: 'Mars' is not a time zone"),
        ({"SLUICE_NATS_URL": "a:hunter2@bus"}, "SLUICE_NATS_URL: a NATS URL is nats://user:password@host:port"),
        (
            {"SLUICE_LOGS_DATABASE_URL": "a:hunter2@db"},
            "SLUICE_LOGS_DATABASE_URL: a PostgreSQL URL is postgresql://user:password@host:port/database",
        ),
    ],
)
def test_a_wrong_setting_is_named_by_its_variable_and_never_shown_when_secret(
    env: dict[str, str], sentence: str
) -> None:
    given = {"SLUICE_LOGS_DATABASE_URL": "postgresql://nowhere/x", **env}
    ended = sluice("serve", "logs", "--http", "0", "--admin", "0", env=given)
    assert (ended.returncode, ended.stderr) == (2, f"sluice: {sentence}\n")


@pytest.mark.parametrize("option", ["--http", "--https", "--admin", "--nats-port", "--stomp", "--stomp-tls"])
def test_a_port_that_is_none_is_refused(option: str) -> None:
    ended = sluice("up", option, "70000")
    assert ended.returncode == 2
    assert "65535" in ended.stderr


def test_an_old_schema_is_refused_until_it_is_migrated(empty_database: str, nats_server: NatsServer) -> None:
    env = {"SLUICE_LOGS_DATABASE_URL": empty_database, "SLUICE_NATS_URL": nats_server.url()}
    refused = sluice("serve", "logs", "--http", "0", "--admin", "0", "--host", "127.0.0.1", env=env)
    assert refused.returncode == 2
    assert "run `sluice migrate --service logs`" in refused.stderr.splitlines()[-1]
    for _ in range(2):
        done = sluice("migrate", "--service", "logs", "--json", env=env)
        assert (done.returncode, json.loads(done.stdout)) == (0, ["logs"])
    with serving("logs", env) as (process, _ready):
        process.terminate()
        assert process.wait(10) == 0


def test_a_database_that_cannot_be_reached_is_one_sentence_without_its_password() -> None:
    ended = sluice(
        "migrate", "--service", "logs", env={"SLUICE_LOGS_DATABASE_URL": "postgresql://a:hunter2@127.0.0.1:1/x"}
    )
    assert ended.returncode == 2
    assert ended.stderr.startswith("sluice: the database of logs cannot be reached: ")
    assert ended.stderr.count("\n") == 1
    assert "hunter2" not in ended.stderr


def test_documents_are_stale_until_they_are_written(tmp_path: Path) -> None:
    services = [service for service in chosen(None) if service.name != documents.MERGED_BY]
    files = documents.render(services, tmp_path / "openapi")
    assert documents.stale(files) == list(files)
    assert documents.write(files) == list(files)
    assert documents.stale(documents.render(services, tmp_path / "openapi")) == []
    assert json.loads((tmp_path / "openapi" / "logs.json").read_text())["openapi"].startswith("3.1")


def test_the_environment_does_not_change_a_document(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    plain = documents.render(chosen(None), tmp_path)
    monkeypatch.setenv("SLUICE_BASE_PATH", "/lab")
    monkeypatch.setenv("SLUICE_TIMEZONE", "America/New_York")
    assert documents.render(chosen(None), tmp_path) == plain


def test_help_shows_the_commands_of_services_too() -> None:
    shown = sluice("--help", env={"COLUMNS": "120"})
    for command in ("up", "status", "env", "migrate", "serve", "openapi", "agents", "token"):
        assert f" {command} " in shown.stdout


def test_quick_commands_import_no_service() -> None:
    loaded = subprocess.run(
        [SLUICE, "status", "--data", os.devnull],
        env=environment({"PYTHONPROFILEIMPORTTIME": "1"}),
        capture_output=True,
        text=True,
    ).stderr
    for heavy in ("sqlalchemy", "fastapi", "nats", "cryptography", "sluice_registry"):
        assert f"| {heavy}\n" not in loaded.replace(" ", "").replace("|", "| ")
