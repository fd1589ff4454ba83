"""Who did what on one service can be read from another one."""

from uuid import uuid4

from sluice_core.testing import eventually
from tests.integration.platforms import Client


def test_what_every_service_refuses_is_told_by_the_registry(client: Client, stranger: Client) -> None:
    wanted = {
        "logs": "/api/logs/",
        "runs": "/api/runs/",
        "stream": "/api/subscribers/",
        "pcs": "/pcs/api/campaigns/",
        "registry": "/api/workers/",
    }
    ids = {}
    for service, path in wanted.items():
        ids[service] = uuid4().hex
        bad = {"Authorization": "Token forged", "X-Request-Id": ids[service]}
        assert stranger.get(path, headers=bad).status_code == 403

    def look() -> bool:
        rows = client.get("/api/auth/audit/?outcome=refused&limit=1000").json()
        told = {(row["service"], row["route"], row["request_id"]) for row in rows}
        return told >= {(service, path, ids[service]) for service, path in wanted.items()}

    eventually(look)
