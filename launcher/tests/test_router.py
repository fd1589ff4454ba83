"""Each path reaches the service that declared it."""

from typing import Any

import pytest

from sluice.router import PathRouter

ROUTES = {
    "registry": ("/api/", "/api/systemagents", "/.well-known/"),
    "logs": ("/api/logs", "/v1/logs"),
    "stream": ("/api/messages", "/api/workflow-messages"),
}


def router(prefix: str = "") -> tuple[PathRouter, list[str]]:
    reached: list[str] = []

    def app(name: str) -> Any:
        async def record(scope: Any, receive: Any, send: Any) -> None:
            reached.append(name)

        return record

    return PathRouter({name: app(name) for name in ROUTES}, ROUTES, default="registry", prefix=prefix), reached


async def ask(path: str, prefix: str = "", kind: str = "http") -> str:
    table, reached = router(prefix)
    await table({"type": kind, "path": path}, None, None)  # type: ignore[arg-type]
    return reached[0]


@pytest.mark.parametrize(
    ("path", "service"),
    [
        ("/api/", "registry"),
        ("/api", "registry"),
        ("/api/logs", "logs"),
        ("/api/logs/", "logs"),
        ("/api/logs/7/", "logs"),
        ("/api/logs.json", "logs"),
        ("/api/logsheets/", "registry"),
        ("/v1/logs", "logs"),
        ("/api/workflow-messages/1/", "stream"),
        ("/.well-known/jwks.json", "registry"),
        ("/", "registry"),
        ("/api/nobody/", "registry"),
        ("/wp-login.php", "registry"),
        ("", "registry"),
    ],
)
async def test_the_longest_declared_prefix_wins_and_the_registry_gets_the_rest(path: str, service: str) -> None:
    for kind in ("http", "websocket"):
        assert await ask(path, kind=kind) == service
        assert await ask(f"/swf-monitor{path}", "/swf-monitor", kind) == service


async def unused(scope: Any, receive: Any, send: Any) -> None: ...


def test_one_prefix_belongs_to_one_service() -> None:
    with pytest.raises(ValueError, match="logs and registry both claim /api/logs/"):
        PathRouter(
            dict.fromkeys(ROUTES, unused), {"registry": ("/api/logs",), "logs": ("/api/logs/",)}, default="registry"
        )
