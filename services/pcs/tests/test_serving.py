"""The physics configuration service behind real ports, with a real bus; and odd input by the hundred."""

import asyncio
import json
from base64 import b64decode

import requests

from sluice_core.bus import PCS, Bus
from sluice_core.bus.permissions import authorization
from sluice_core.testing import StartNats, eventually, eventually_async
from sluice_core.testing.apps import AppMaker
from sluice_core.testing.fuzz import assert_no_server_error
from sluice_core.testing.serving import serving
from sluice_core.testing.tokens import Tokens

from .world import API, MINIMAL

PASSWORD = "only-for-this-test"


async def events(url: str, wanted: int) -> list[tuple[str, str]]:
    """Read the stream: subject, and label of the tag that it is about."""
    bus = Bus(url, name="admin")
    await bus.open()
    try:
        session = await bus.session()

        async def all_there() -> bool:
            return int((await session.api("STREAM.INFO.PCS"))["state"]["messages"]) >= wanted

        await eventually_async(all_there)
        found = []
        for number in range(1, wanted + 1):
            message = (await session.api("STREAM.MSG.GET.PCS", {"seq": number}))["message"]
            body = json.loads(b64decode(message["data"]))
            found.append((message["subject"], body["data"]["tag_label"]))
        return found
    finally:
        await bus.close()


async def make_stream(url: str) -> None:
    bus = Bus(url, name="admin", keeps=(PCS,))
    await bus.open()
    try:
        await bus.wait_connected(10)
    finally:
        await bus.close()


def test_a_tag_is_made_and_locked_and_each_change_is_an_event(make_app: AppMaker, start_nats: StartNats) -> None:
    nats = start_nats(authorization({"registry": PASSWORD, "pcs": PASSWORD, "admin": PASSWORD}))
    registry = Tokens()
    asyncio.run(registry.publish(nats.url("registry", PASSWORD)))
    asyncio.run(make_stream(nats.url("admin", PASSWORD)))
    with serving(make_app(nats_url=nats.url("pcs", PASSWORD))) as served, requests.Session() as session:
        eventually(lambda: requests.get(f"{served.admin_url}/readyz", timeout=5).status_code == 200)
        session.headers.update(registry.header("pcs:write", "pcs:lock"))
        body = {"created_by": "ada", "parameters": MINIMAL["evgen"]}
        made = session.post(f"{served.url}{API}evgen-tags/", json=body, timeout=10)
        assert made.status_code == 201
        path = f"{served.url}{API}evgen-tags/1/"
        assert session.patch(path, json={"description": "x"}, timeout=10).status_code == 200
        assert session.post(f"{path}lock/", timeout=10).status_code == 200
        told = asyncio.run(events(nats.url("admin", PASSWORD), 3))
        assert told == [("pcs.tag.created", "e1"), ("pcs.tag.updated", "e1"), ("pcs.tag.locked", "e1")]


def test_no_input_is_answered_by_a_server_error(make_app: AppMaker, tokens: Tokens) -> None:
    app, headers = make_app(), tokens.header("admin")
    with serving(app) as served, requests.Session() as session:
        session.headers.update(headers)

        def make(path: str, body: object) -> dict[str, object]:
            reply = session.post(f"{served.url}{path}", json=body, timeout=10)
            assert reply.status_code == 201, reply.text
            found: dict[str, object] = reply.json()
            return found

        make(f"{API}physics-categories/", {"digit": 1, "name": "DIS", "created_by": "ada"})
        ids = {}
        for kind in ("physics", "evgen", "simu", "reco"):
            # The tag behind the number 1 is a draft, so that what changes one goes on.
            more = {"category": 1} if kind == "physics" else {}
            for _ in range(2):
                row = make(f"{API}{kind}-tags/", {"created_by": "ada", "parameters": MINIMAL[kind], **more})
            assert session.post(f"{served.url}{API}{kind}-tags/{row['tag_number']}/lock/", timeout=10).ok
            ids[f"{kind}_tag"] = row["id"]
        detector = {"detector_version": "26.02.0", "detector_config": "epic_craterlake"}
        made = make(f"{API}datasets/", {**ids, **detector, "created_by": "ada"})
        make(f"{API}prod-configs/", {"name": "std", "created_by": "ada"})
        rows = {"digit": 1, "tag_number": 1, "other": 2, "id": made["id"], "did": made["did"], "type": "e"}
        document = app.openapi()
        # Tags of all kinds are served by the same code, and queues as endpoints: one of them is enough.
        same = ("/api/rucio-endpoints/", *(f"{API}{kind}-tags/" for kind in ("evgen", "simu", "reco", "background")))
        document["paths"] = {path: each for path, each in document["paths"].items() if not path.startswith(same)}
        assert_no_server_error(served.url, document, headers=headers, rows=rows, examples=3)
