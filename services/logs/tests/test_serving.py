"""The log service behind real ports, with a real bus."""

import asyncio

import requests

from sluice_core.bus.permissions import authorization
from sluice_core.testing import StartNats, eventually
from sluice_core.testing.apps import AppMaker
from sluice_core.testing.serving import serving
from sluice_core.testing.tokens import Tokens

from .records import URL, record

PASSWORD = "only-for-this-test"


def test_an_agent_logs_from_localhost_without_a_token_and_admins_are_known_by_the_bus(
    make_app: AppMaker, start_nats: StartNats
) -> None:
    nats = start_nats(authorization({"registry": PASSWORD, "logs": PASSWORD}))
    registry = Tokens()
    asyncio.run(registry.publish(nats.url("registry", PASSWORD)))
    with serving(make_app(nats_url=nats.url("logs", PASSWORD))) as served:
        eventually(lambda: requests.get(f"{served.admin_url}/readyz", timeout=5).status_code == 200)
        # As the agents' library does it: 127.0.0.1, and no credential (scenario 12).
        created = requests.post(f"{served.url}{URL}", json=record(), timeout=10)
        assert created.status_code == 201
        assert created.headers["x-frame-options"] == "DENY"
        path = f"{served.url}{URL}{created.json()['id']}/"
        assert requests.delete(path, headers=registry.header("logs:write"), timeout=10).status_code == 403
        assert requests.delete(path, headers=registry.header("logs:admin"), timeout=10).status_code == 204
        metrics = requests.get(f"{served.admin_url}/metrics", timeout=5).text
        assert 'route="/api/logs/"' in metrics
        assert 'sluice_logs_records_total{outcome="stored"} 1.0' in metrics
        assert "sluice_logs_waiting_bytes 0.0" in metrics
