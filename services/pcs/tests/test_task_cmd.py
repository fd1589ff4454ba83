"""``pcs-task-cmd``, as contract 10.6 describes it: what it sends and reads, over a real port below a prefix."""

import json
import re
from collections.abc import Iterator
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import pytest
import requests

from sluice_core.testing.apps import AppMaker
from sluice_core.testing.serving import serving
from sluice_core.testing.tokens import Tokens

from .test_tasks import EXAMPLE
from .world import API, MINIMAL, composition

PREFIX = "/swf-monitor"


class TaskCmd:
    """The steps of the program; each returns its exit status and what it prints.

    Parameters
    ----------
    url, token
        ``SWFMON_URL`` and ``SWFMON_TOKEN``.
    """

    def __init__(self, url: str, token: str) -> None:
        self._url = url
        self._token = token

    def inspect(self, name: str, fmt: str) -> tuple[int, str]:
        return self._call(f"command/?{urlencode({'name': name, 'fmt': fmt})}")

    def submit(self, name: str, panda: str) -> tuple[int, str]:
        status, text = self.inspect(name, "jedi")
        if status:
            return status, text
        assert json.loads(text)["taskName"]
        found = re.search(r"jediTaskID=(\d+)", panda)
        assert found
        body = {"jedi_task_id": int(found[1]), "status": "submitted"}
        status, text = self._call(f"record-submission/?{urlencode({'name': name})}", body)
        return (2, found[1]) if status else (0, text)

    def _call(self, path: str, body: Any = None) -> tuple[int, str]:
        headers = {"Authorization": f"Token {self._token}"}
        data = None
        if body is not None:
            headers["Content-Type"] = "application/json"
            data = json.dumps(body).encode()
        try:
            with urlopen(Request(f"{self._url}/pcs/api/prod-tasks/{path}", data, headers), timeout=10) as reply:
                return 0, reply.read().decode()
        except HTTPError as exc:
            with exc:
                return 1, f"HTTP {exc.code}: {exc.read().decode()}"


@pytest.fixture
def served(make_app: AppMaker, tokens: Tokens) -> Iterator[str]:
    """Serve a task that is called by its composed name."""
    with serving(make_app(shared={"base_path": PREFIX})) as server, requests.Session() as session:
        session.headers.update(tokens.header("pcs:write", "pcs:lock"))

        def make(path: str, **body: Any) -> dict[str, Any]:
            reply = session.post(f"{server.url}{PREFIX}{API}{path}/", json={"created_by": "ada", **body}, timeout=10)
            assert reply.ok, reply.text
            found: dict[str, Any] = reply.json()
            return found

        make("physics-categories", digit=1, name="DIS")
        rows = {}
        for kind in ("physics", "evgen", "simu", "reco"):
            more = {"category": 1} if kind == "physics" else {}
            rows[kind] = make(f"{kind}-tags", parameters=MINIMAL[kind], **more)
            make(f"{kind}-tags/{rows[kind]['tag_number']}/lock")
        data = make("datasets", **composition(rows))
        config = make("prod-configs", name="std", jug_xl_tag="26.02.0-stable", use_rucio=False)
        make("prod-tasks", name="t1", dataset=data["id"], prod_config=config["id"], csv_file="EXCLUSIVE/x.csv")
        yield f"{server.url}{PREFIX}"


def test_the_program_prints_commands_submits_and_writes_back(served: str, tokens: Tokens) -> None:
    name = "group.EIC.26.02.0.epic_craterlake.p1001.e1.s1.r1"
    program = TaskCmd(served, tokens.header("pcs:write")["Authorization"].split()[1])
    assert program.inspect(name, "condor") == (0, EXAMPLE)
    assert program.inspect(name, "panda")[1].startswith("prun \\\n  --outDS ")
    assert list(json.loads(program.inspect(name, "dump")[1])) == [
        "task",
        "dataset",
        "tags",
        "prod_config",
        "effective_config",
    ]
    assert program.inspect("nobody", "jedi") == (1, """HTTP 404: {"detail":"No task named 'nobody'"}""")
    status, text = program.submit(name, "task submission succeeded. new jediTaskID=4242")
    assert (status, json.loads(text)["panda_task_id"], json.loads(text)["status"]) == (0, 4242, "submitted")
    # What JEDI has taken is printed when it cannot be written back.
    stranger = TaskCmd(served, tokens.header("pcs:write", subject="bob")["Authorization"].split()[1])
    assert stranger.submit(name, "new jediTaskID=4300") == (2, "4300")
