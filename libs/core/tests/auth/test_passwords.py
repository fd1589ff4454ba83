"""HTTP Basic: asked once and remembered for a while, by a registry that is asked as the user himself would."""

import asyncio
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from fastapi import FastAPI, Request, Response

from sluice_core.auth import Identity, PasswordsAway, Refused, Throttled, user_key
from sluice_core.auth.credentials import Basic
from sluice_core.auth.passwords import KEPT, WAITING, AskedPasswords, RegistryPasswords
from sluice_core.http.server import Listener, Server
from sluice_core.testing.tokens import read_keyring

ADA = Identity("ada", frozenset({"logs:read"}), None, by="password")


def basic(username: str = "ada", password: str = "right") -> Basic:
    return Basic(b64encode(f"{username}:{password}".encode()))


class Knower:
    """Knows one password, and counts how often it is asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, str]] = []
        self.open = asyncio.Event()
        self.open.set()

    async def ask(self, username: str, password: str, source: str) -> Identity:
        self.asked.append((username, password, source))
        await self.open.wait()
        if password != "right":
            raise Refused("Invalid username/password.")
        return Identity(username, frozenset(), None, by="password")


class World:
    def __init__(self, **options: Any) -> None:
        self.knower = Knower()
        self.keyring = read_keyring()
        self.passwords = AskedPasswords(self.knower.ask, self.keyring, **options)

    async def subject(self, credential: Basic, peer: str = "10.0.0.1") -> str:
        scope = {"client": (peer, 1), "headers": []}
        return (await self.passwords.check(credential, scope)).subject


async def test_a_right_password_is_asked_about_once() -> None:
    world = World()
    for _ in range(5):
        assert await world.subject(basic()) == "ada"
    assert world.knower.asked == [("ada", "right", "10.0.0.1")]


async def test_it_is_asked_about_again_after_a_while() -> None:
    world = World(lifetime=0.0)
    for _ in range(3):
        await world.subject(basic())
    assert len(world.knower.asked) == 3


async def test_requests_that_come_together_ask_together() -> None:
    world = World()
    world.knower.open.clear()
    waiting = [asyncio.create_task(world.subject(basic())) for _ in range(20)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    world.knower.open.set()
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert outcomes[1:] == ["ada"] * 19
    assert len(world.knower.asked) == 1


async def test_a_wrong_password_is_never_remembered_as_right_nor_as_wrong() -> None:
    world = World()
    await world.subject(basic())
    for _ in range(2):
        with pytest.raises(Refused, match=r"^Invalid username/password\.$"):
            await world.subject(basic(password="wrong"))
    assert [password for _, password, _ in world.knower.asked] == ["right", "wrong", "wrong"]
    # Parts of one are not parts of another.
    with pytest.raises(Refused):
        await world.subject(Basic(b64encode(b"ad:aright")))


async def test_who_is_switched_off_is_not_remembered() -> None:
    world = World()
    await world.subject(basic())
    world.keyring.apply_revoked(user_key("ada"), b"")
    await world.subject(basic())
    assert len(world.knower.asked) == 2


async def test_what_is_remembered_is_bounded_and_is_no_password() -> None:
    world = World()
    for number in range(KEPT + 5):
        await world.subject(basic(f"user-{number}"))
    assert len(world.passwords._right) == KEPT
    assert not any(b"right" in key for key in world.passwords._right)


async def test_no_more_wait_than_may() -> None:
    world = World()
    world.knower.open.clear()
    waiting = [asyncio.create_task(world.subject(basic(f"user-{number}"))) for number in range(WAITING)]
    await asyncio.sleep(0)
    with pytest.raises(PasswordsAway):
        await world.subject(basic("one-more"))
    world.knower.open.set()
    await asyncio.gather(*waiting)
    assert await world.subject(basic("one-more")) == "one-more"


@pytest.mark.parametrize(
    "encoded",
    [
        b"",
        b"nonsense!",
        b64encode(b"no colon"),
        b64encode(b":right"),
        b64encode(b"\xff:right"),
        b64encode(b"a" * 151 + b":right"),
        b64encode(b"a:" + b"x" * 9000),
        b"YTpi YTpi",
    ],
)
async def test_what_is_no_credential_is_refused_without_asking(encoded: bytes) -> None:
    world = World()
    with pytest.raises(Refused, match=r"^Invalid username/password\.$"):
        await world.subject(Basic(encoded))
    assert world.knower.asked == []


async def test_a_password_may_hold_anything() -> None:
    world = World()
    with pytest.raises(Refused):
        await world.subject(Basic(b64encode("ada:ü: \0:".encode())))
    assert world.knower.asked == [("ada", "ü: \0:", "10.0.0.1")]


# --- the registry is asked

Answer = Callable[[Request], Awaitable[Response]]


@asynccontextmanager
async def registry(answer: Answer) -> AsyncIterator[RegistryPasswords]:
    app = FastAPI()
    app.get("/prefix/api/auth/whoami", response_model=None)(answer)
    listener = Listener("127.0.0.1", 0)
    server = Server(app, listener)
    await server.start()
    asked = RegistryPasswords(f"{listener.url()}/prefix")
    try:
        yield asked
    finally:
        await asked.close()
        await server.stop()


async def test_the_registry_is_asked_with_the_users_own_words() -> None:
    seen: dict[str, str] = {}

    async def answer(request: Request) -> Response:
        seen.update(request.headers)
        return Response('{"subject":"ada","scopes":["logs:read"],"more":1}')

    async with registry(answer) as passwords:
        assert await passwords.ask("ada", "ü:x", "1.2.3.4") == ADA
    assert seen["authorization"] == "Basic " + b64encode("ada:ü:x".encode()).decode()
    assert seen["x-forwarded-for"] == "1.2.3.4"


@pytest.mark.parametrize(
    ("status", "body", "headers", "raised"),
    [
        (401, "", {}, Refused),
        (429, "", {"Retry-After": "7"}, Throttled),
        (429, "", {}, Throttled),
        (503, "", {}, PasswordsAway),
        (404, "", {}, PasswordsAway),
        (302, "", {"Location": "/"}, PasswordsAway),
        (200, "no JSON", {}, PasswordsAway),
        (200, "[]", {}, PasswordsAway),
        (200, '{"subject":null}', {}, PasswordsAway),
    ],
)
async def test_only_a_yes_is_a_yes(status: int, body: str, headers: dict[str, str], raised: type[Exception]) -> None:
    async def answer(_: Request) -> Response:
        return Response(body, status, headers)

    async with registry(answer) as passwords:
        with pytest.raises(raised) as refusal:
            await passwords.ask("ada", "right", "1.2.3.4")
    if isinstance(refusal.value, Throttled):
        assert refusal.value.wait == int(headers.get("Retry-After", "1"))


async def test_a_registry_that_is_away_is_told_so_and_costs_no_try() -> None:
    passwords = RegistryPasswords("http://127.0.0.1:1")
    for _ in range(20):
        with pytest.raises(PasswordsAway):
            await passwords.ask("ada", "right", "1.2.3.4")
    await passwords.close()


async def test_wrong_passwords_are_slowed_down_before_they_reach_the_registry() -> None:
    asked = 0

    async def answer(_: Request) -> Response:
        nonlocal asked
        asked += 1
        return Response(status_code=401)

    async with registry(answer) as passwords:
        outcomes = []
        for number in range(20):
            with pytest.raises((Refused, Throttled)) as refusal:
                await passwords.ask("ada", f"wrong-{number}", "1.2.3.4")
            outcomes.append(type(refusal.value))
    assert outcomes[-1] is Throttled
    assert asked < 10
