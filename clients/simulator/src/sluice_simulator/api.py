"""The platform's HTTP API as agents ask it (swf-clients.md 4)."""

import threading
from collections.abc import Mapping
from typing import Any

import requests

from sluice_simulator.errors import ApiError

__all__ = ["DELAYS", "Api"]

TIMEOUT = 10.0
DELAYS = (2, 5, 10, 20, 40, 60)
"""Seconds between the tries of one request (4.1)."""
RETRIED = frozenset({404, 500, 502, 503, 504})


class Api:
    """Requests of one agent, each tried again as agents do.

    Parameters
    ----------
    url
        Base URL, prefix included.
    token
        Sent as ``Authorization: Token``; None: no header.
    stopping
        Ends the wait between two tries.
    """

    def __init__(self, url: str, token: str | None, stopping: threading.Event) -> None:
        self.retries = 0
        """Requests that were tried again."""
        self._url = url.rstrip("/")
        self._stopping = stopping
        # A runner beats in one thread and drives its run in another; a session is for one at a time.
        self._one_at_a_time = threading.Lock()
        self._session = requests.Session()
        if token:
            self._session.headers["Authorization"] = f"Token {token}"

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def get(self, path: str, **query: Any) -> Any:
        """Ask for a path below ``/api``; return the decoded answer."""
        return self.request("GET", path, query=query)

    def post(self, path: str, body: Any = None, **headers: str) -> Any:
        """Send a JSON body, or none; return the decoded answer."""
        return self.request("POST", path, body=body, headers={k.replace("_", "-"): v for k, v in headers.items()})

    def patch(self, path: str, body: Any) -> Any:
        """Change what a path names."""
        return self.request("PATCH", path, body=body)

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """Make a request, again and again for two minutes where that may help.

        Raises
        ------
        ApiError
            It was refused for good, or never answered.
        """
        for delay in (*DELAYS, None):
            status = None
            try:
                with self._one_at_a_time:
                    reply = self._session.request(
                        method,
                        f"{self._url}/api{path}",
                        params=query,
                        json=body,
                        headers=headers,
                        timeout=TIMEOUT,
                        allow_redirects=False,
                    )
            except requests.RequestException as exc:
                said = str(exc)
            else:
                status, said = reply.status_code, reply.text[:500]
                if status < 300:
                    return reply.json()
            if delay is None or (status is not None and status not in RETRIED) or self._stopping.wait(delay):
                raise ApiError(f"{method} {path}: {status or 'no answer'}: {said}", status)
            self.retries += 1
        raise AssertionError("unreachable")  # pragma: no cover
