"""One service in the test's own process, over a database that is empty at the start."""

from importlib import import_module
from typing import Any, Protocol

from fastapi import FastAPI
from pydantic import SecretStr
from starlette.testclient import TestClient

from sluice_core.settings import Shared
from sluice_core.testing.schema import clear
from sluice_core.testing.tokens import Tokens

__all__ = ["NO_NATS", "AppMaker", "Start"]

NO_NATS = "nats://127.0.0.1:1"
"""Nobody answers there, and nothing but readiness may mind."""


class Start(Protocol):
    """The fixture `start`."""

    def __call__(self, **settings: Any) -> TestClient:
        """Run an application of `make_app` until the test ends; return its client, which follows no redirects."""
        ...


class AppMaker:
    """Makes applications of one service: the fixture `make_app`.

    Parameters
    ----------
    package
        Import name of the service; its modules ``app``, ``settings`` and ``tables`` are those of the house.
    url
        Its migrated database, which is emptied.
    tokens
        Whose tokens the applications take.
    """

    def __init__(self, package: str, url: str, tokens: Tokens) -> None:
        self._app = import_module(f"{package}.app")
        self._settings = import_module(f"{package}.settings")
        self._url = url
        self._tokens = tokens
        clear(url, import_module(f"{package}.tables").metadata)

    def __call__(self, *, nats_url: str = NO_NATS, shared: dict[str, Any] | None = None, **settings: Any) -> FastAPI:
        """Return the application with these settings, shared ones apart; it connects to nothing before it runs."""
        common = Shared(nats_url=SecretStr(nats_url), **(shared or {}))
        made = self._settings.Settings(database_url=SecretStr(self._url), shared=common, **settings)
        app: FastAPI = self._app.create_app(made)
        self._tokens.teach(app.state.service.keyring)
        return app
