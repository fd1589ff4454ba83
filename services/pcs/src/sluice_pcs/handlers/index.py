"""``/pcs/api/``: where everything is (contract 5.1)."""

from sluice_core.rest import Endpoint, Reply, Request
from sluice_pcs.handlers.answers import document

__all__ = ["endpoints"]

PATH = "/pcs/api/"
OLD = ("physics-categories", "physics-tags", "evgen-tags", "simu-tags", "reco-tags", "datasets", "prod-configs")
NEW = ("background-tags", "campaigns", "physics-configs", "prod-tasks")


def endpoints() -> tuple[Endpoint, ...]:
    """Return the index."""

    async def get(request: Request) -> Reply:
        return Reply(200, {name: request.url(f"{PATH}{name}/") for name in (*OLD, *NEW)})

    answer = {"type": "object", "additionalProperties": {"type": "string"}}
    described = document("pcs", "pcs_index", "Where everything is", {"200": "URLs by name"}, answer=answer)
    return (Endpoint(PATH, {"GET": get}, auth="read", openapi={"get": described}),)
