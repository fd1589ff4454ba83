"""Questions to the runs service: whether it has what a message refers to."""

from collections.abc import Callable
from uuid import UUID

import httpx2
import structlog
from pydantic import SecretStr

__all__ = ["Exists", "Runs"]

log = structlog.get_logger(__name__)

Exists = Callable[[str, UUID], bool]
"""Says whether a resource has a row with this key."""

TIMEOUT = 2.0


class Runs:
    """The runs service, as far as it is there.

    Parameters
    ----------
    url
        Its base URL.
    token
        Ours, for where reads are closed.
    """

    def __init__(self, url: str, token: SecretStr | None) -> None:
        headers = {
            "Accept": "application/json",
            **({"Authorization": f"Bearer {token.get_secret_value()}"} if token else {}),
        }
        self._client = httpx2.Client(base_url=url, headers=headers, timeout=TIMEOUT, trust_env=False)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def exists(self, resource: str, key: UUID) -> bool:
        """Say whether a row is there; blocks.

        Only its own word that there is none counts. Who cannot be asked, or is not installed, contradicts nobody: a
        message is a record of what was said, and a wrong reference in it does no harm.
        """
        try:
            reply = self._client.get(f"/api/{resource}/{key}/")
        except httpx2.HTTPError as exc:
            log.info("the runs service cannot be asked", resource=resource, reason=str(exc))
            return True
        # A path that nobody serves is a page, and no JSON.
        return not (reply.status_code == 404 and reply.headers.get("content-type", "").startswith("application/json"))
