"""The stream service behind real ports, with a real bus."""

import asyncio

import requests

from sluice_core.bus.permissions import authorization
from sluice_core.testing import StartNats, eventually
from sluice_core.testing.apps import AppMaker
from sluice_core.testing.serving import serving
from sluice_core.testing.tokens import Tokens

PASSWORD = "only-for-this-test"
URL = "/api/subscribers/"
AGENT = {"subscriber_name": "daq-7-/topic/epictopic", "description": "DATA agent", "is_active": True, "fraction": 1.0}


def test_an_agent_with_a_token_of_the_registry_registers_once_and_again(
    make_app: AppMaker, start_nats: StartNats
) -> None:
    nats = start_nats(authorization({"registry": PASSWORD, "stream": PASSWORD}))
    registry = Tokens()
    asyncio.run(registry.publish(nats.url("registry", PASSWORD)))
    with serving(make_app(nats_url=nats.url("stream", PASSWORD))) as served, requests.Session() as session:
        eventually(lambda: requests.get(f"{served.admin_url}/readyz", timeout=5).status_code == 200)
        session.headers.update(registry.header("stream:write"))
        replies = [session.post(f"{served.url}{URL}", json=AGENT, timeout=10, allow_redirects=False) for _ in range(2)]
        assert [reply.status_code for reply in replies] == [201, 400]
        assert replies[0].json()["subscriber_name"] == AGENT["subscriber_name"]
        assert replies[1].text == '{"subscriber_name":["subscriber with this subscriber name already exists."]}'
        metrics = requests.get(f"{served.admin_url}/metrics", timeout=5).text
        assert f'route="{URL}"' in metrics
