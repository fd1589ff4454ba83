"""What tests say to the service again and again."""

from typing import Any

from httpx2 import Response
from starlette.testclient import TestClient

__all__ = ["API", "DIS", "MINIMAL", "category", "composition", "dataset", "lock", "tag", "tags_of_all_kinds"]

API = "/pcs/api/"
DIS = {"process": "DIS_NC", "beam_energy_electron": "18", "beam_energy_hadron": "275"}
MINIMAL: dict[str, dict[str, Any]] = {
    "physics": DIS,
    "evgen": {"generator": "pythia8", "generator_version": "8.310"},
    "simu": {"detector_sim": "npsim", "sim_version": "26.02.0"},
    "reco": {"reco_version": "26.02.0", "reco_config": "standard"},
    "background": {"background_type": "BEAMGAS"},
}


def made(reply: Response) -> dict[str, Any]:
    assert reply.status_code == 201, reply.text
    found: dict[str, Any] = reply.json()
    return found


def category(client: TestClient, digit: int = 1, name: str = "DIS", by: str = "ada") -> dict[str, Any]:
    return made(client.post(f"{API}physics-categories/", json={"digit": digit, "name": name, "created_by": by}))


def tag(client: TestClient, kind: str = "evgen", by: str = "ada", **given: Any) -> dict[str, Any]:
    """Make a draft; a physics tag in category 1 unless told otherwise."""
    more = {"category": 1} if kind == "physics" else {}
    body = {"created_by": by, "parameters": MINIMAL[kind], **more, **given}
    return made(client.post(f"{API}{kind}-tags/", json=body))


def lock(client: TestClient, kind: str, row: dict[str, Any]) -> None:
    reply = client.post(f"{API}{kind}-tags/{row['tag_number']}/lock/")
    assert reply.status_code == 200, reply.text


def tags_of_all_kinds(client: TestClient, *, locked: bool = True) -> dict[str, dict[str, Any]]:
    category(client)
    found = {kind: tag(client, kind) for kind in ("physics", "evgen", "simu", "reco")}
    if locked:
        for kind, row in found.items():
            lock(client, kind, row)
    return found


def composition(rows: dict[str, dict[str, Any]], by: str = "ada", **given: Any) -> dict[str, Any]:
    return {
        "detector_version": "26.02.0",
        "detector_config": "epic_craterlake",
        "created_by": by,
        **{f"{kind}_tag": row["id"] for kind, row in rows.items()},
        **given,
    }


def dataset(client: TestClient, **given: Any) -> dict[str, Any]:
    """Make a data set of new locked tags."""
    return made(client.post(f"{API}datasets/", json=composition(tags_of_all_kinds(client), **given)))
