"""No input makes the registry fail."""

import pytest
import requests

from sluice_core.testing import NatsServer
from sluice_core.testing.fuzz import assert_no_server_error
from sluice_core.testing.serving import serving
from sluice_core.testing.tokens import Tokens

from .conftest import MakeApp

WORKER = {
    "worker_id": "worker-1",
    "run_number": 100010,
    "panda_job": "job-1",
    "location": "BNL",
    "status": "running",
    "started_at": "2026-05-05T10:00:00Z",
}


@pytest.mark.timeout(300)
def test_no_input_is_answered_by_a_server_error(make_app: MakeApp, tokens: Tokens, nats_server: NatsServer) -> None:
    # Without an OAuth server the contract wants a 503.
    app, headers = make_app(nats_url=nats_server.url(), auth0_domain="oauth.example"), tokens.header("admin")
    with serving(app) as served:

        def post(path: str, **body: object) -> requests.Response:
            reply = requests.post(f"{served.url}/api/{path}", json=body, headers=headers, timeout=10)
            reply.raise_for_status()
            return reply

        agent = post("systemagents/heartbeat/", instance_name="daq-7").json()
        post("workers/", **WORKER)
        post("namespaces/ensure/", name="n1", owner="ada")
        rows = {"id": agent["id"], "worker_id": WORKER["worker_id"], "name": "n1"}
        assert_no_server_error(served.url, app.openapi(), headers=headers, rows=rows)
