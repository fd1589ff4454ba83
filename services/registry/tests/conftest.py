"""The registry's application, its database empty at the start of each test."""

import contextlib
from collections.abc import Iterator
from functools import partial
from typing import Any, Protocol

import pytest
from fastapi import FastAPI
from pydantic import SecretStr
from starlette.testclient import TestClient

from sluice_core.settings import Shared
from sluice_core.testing import Databases
from sluice_core.testing.schema import clear
from sluice_core.testing.tokens import Tokens
from sluice_registry.app import create_app
from sluice_registry.settings import Settings
from sluice_registry.tables import metadata

# Nobody answers there, and nothing but readiness may mind.
NO_NATS = "nats://127.0.0.1:1"


class MakeApp(Protocol):
    """The fixture `make_app`."""

    def __call__(self, *, nats_url: str = NO_NATS, shared: dict[str, Any] | None = None, **settings: Any) -> FastAPI:
        """Return the application with these settings; it knows the keys of `tokens`."""
        ...


class Start(Protocol):
    """The fixture `start`."""

    def __call__(self, **settings: Any) -> TestClient:
        """Run an application of `make_app` until the test ends."""
        ...


@pytest.fixture(scope="session")
def tokens() -> Tokens:
    return Tokens()


@pytest.fixture(scope="module")
def url(databases: Databases) -> Iterator[str]:
    with databases.fresh("sluice_registry") as made:
        yield made


def application(
    url: str, tokens: Tokens, *, nats_url: str = NO_NATS, shared: dict[str, Any] | None = None, **settings: Any
) -> FastAPI:
    common = Shared(nats_url=SecretStr(nats_url), **(shared or {}))
    app = create_app(Settings(database_url=SecretStr(url), shared=common, **settings))
    tokens.teach(app.state.service.keyring)
    return app


@pytest.fixture
def make_app(url: str, tokens: Tokens) -> MakeApp:
    clear(url, metadata)
    return partial(application, url, tokens)


@pytest.fixture(scope="module")
def standing(url: str, tokens: Tokens) -> Iterator[TestClient]:
    """An application that tests share which store nothing."""
    with TestClient(application(url, tokens), follow_redirects=False) as client:
        yield client


@pytest.fixture
def start(make_app: MakeApp) -> Iterator[Start]:
    with contextlib.ExitStack() as stack:
        yield lambda **settings: stack.enter_context(TestClient(make_app(**settings), follow_redirects=False))


@pytest.fixture
def client(start: Start) -> TestClient:
    return start()
