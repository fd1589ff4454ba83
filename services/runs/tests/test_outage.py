"""Agents that try again over an outage lose nothing and double nothing (swf-clients.md 4.1; scenario 5)."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
import requests

from services.runs.tests.bodies import AT, run_state, slice_of
from sluice_core.testing import eventually
from sluice_core.testing.apps import AppMaker
from sluice_core.testing.servers import PostgresServer
from sluice_core.testing.serving import serving
from sluice_core.testing.tokens import Tokens

FILES = 60
AGENTS = 4
# What agents try again after (swf-clients.md 4.1).
AGAIN = (404, 500, 502, 503, 504)


@pytest.mark.timeout(90)
def test_what_agents_register_over_an_outage_is_there_once_scenario_5_of_swf_clients(
    make_app: AppMaker, tokens: Tokens, postgres_server: PostgresServer
) -> None:
    refused: list[requests.Response] = []
    done: list[int] = []
    with serving(make_app()) as served, requests.Session() as session:
        credential = tokens.header("runs:write")

        def post(path: str, body: object, **headers: str) -> requests.Response:
            """Send until it is answered, as agents do; where they sleep for seconds, this one asks again."""

            found: list[requests.Response] = []

            def answered() -> bool:
                url = f"{served.url}/api/{path}/"
                reply = requests.post(url, json=body, headers={**credential, **headers}, timeout=10)
                (refused if reply.status_code in AGAIN else found).append(reply)
                return bool(found)

            eventually(answered, 60)
            return found[0]

        run = post("runs", {"run_number": 101, "start_time": AT}).json()["run_id"]
        assert post("run-states", run_state(101)).status_code == 201

        def agent(own: int) -> set[int]:
            statuses = set()
            for n in range(own, FILES, AGENTS):
                stf = {"run": run, "stf_filename": f"{n}.stf", "metadata": {"sequence": n}}
                statuses.add(post("stf-files", stf).status_code)
                statuses.add(post("tf-slices", slice_of(101, 0, f"{n}_tf_001")).status_code)
                key = {"Idempotency-Key": f"slice {n}"}
                statuses.add(post("run-states/101/increment", {"slices_created": 1}, **key).status_code)
                done.append(n)
            return statuses

        def reached(mark: int) -> bool:
            return len(done) >= mark

        def outages() -> None:
            # In this thread: a server ends with the one that started it.
            for mark in (10, 30):
                eventually(partial(reached, mark), 60)
                refused.clear()
                postgres_server.kill()
                try:
                    eventually(lambda: bool(refused), 20)
                finally:
                    postgres_server.start()

        with ThreadPoolExecutor(AGENTS) as threads:
            working = [threads.submit(agent, own) for own in range(AGENTS)]
            outages()
            found = set().union(*(each.result() for each in working))
        assert found <= {200, 201}
        assert {reply.status_code for reply in refused} == {503}
        names = [row["stf_filename"] for row in session.get(f"{served.url}/api/stf-files/", timeout=10).json()]
        assert sorted(names) == sorted(f"{n}.stf" for n in range(FILES))
        assert len(session.get(f"{served.url}/api/tf-slices/", timeout=10).json()) == FILES
        assert session.get(f"{served.url}/api/run-states/101/", timeout=10).json()["slices_created"] == FILES
