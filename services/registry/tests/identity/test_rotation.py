"""A new key is known before it signs, an old one stays while anything needs it, and no good request is ever refused."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from operator import contains

import jwt
import msgspec
import pytest
from pydantic import SecretStr
from sqlalchemy import text

from sluice_core.auth import Authenticator, Identity, Keyring, Refused
from sluice_core.bus import KEYS, REVOKED, TOKENS, Bus
from sluice_core.database import Database
from sluice_core.testing import NatsServer, eventually_async
from sluice_registry.service.identity import Grant, TokenIssuer
from sluice_registry.service.projection import Projection

from .conftest import Door

ROOT = Identity("root", frozenset({"admin"}), None)
GRANT = Grant("laptop", "ada", ["reader"], [], timedelta(days=1))
NEVER = timedelta(days=1)


def kid(token: str) -> str:
    return str(jwt.get_unverified_header(token)["kid"])


class Replica:
    """A registry, its projection, and another service that listens."""

    def __init__(self, url: str, nats: str, delay: timedelta) -> None:
        self.database = Database(url, pool_size=2)
        self.issuer = TokenIssuer(self.database, Keyring(), delay=delay, changed=lambda: self.projection.wake())
        self.bus = Bus(nats, name="registry", keeps=(KEYS, TOKENS, REVOKED))
        self.projection = Projection(self.bus, self.issuer.refresh, self.issuer.keys.published, period=0.05)
        self.other = Bus(nats, name="logs")
        self.keyring = Keyring()
        self.service = Authenticator(self.keyring)

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Replica"]:
        await self.issuer.start()
        await self.bus.open()
        await self.other.open()
        tasks = [asyncio.create_task(self.projection.run())]
        for bucket, feed in self.keyring.feeds.items():
            ready = partial(self.keyring.mark_read, bucket)
            tasks.append(asyncio.create_task(self.other.watch(bucket, feed, ready)))
        await eventually_async(lambda: self.keyring.ready)
        try:
            yield self
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            await self.other.close()
            await self.bus.close()
            self.database.close()

    async def token(self) -> str:
        return (await self.issuer.create(GRANT, ROOT))[0]

    def knows(self, token: str) -> bool:
        """Whether the other service takes this token."""
        try:
            return self.service.authenticate([(b"x-auth-token", token.encode())]) is not None
        except Refused:
            return False

    def told(self) -> set[str]:
        """Return the keys of the JWK set."""
        return {msgspec.json.decode(jwk)["kid"] for jwk in self.issuer.jwks()["keys"]}

    async def sql(self, statement: str) -> None:
        await self.database.run(lambda: self.database.transact(lambda connection: connection.execute(text(statement))))


Make = Callable[[timedelta], Replica]


@pytest.fixture
def make(fresh_database: Callable[[str], str], nats_server: NatsServer) -> Make:
    url = fresh_database("sluice_registry")
    return lambda delay: Replica(url, nats_server.url(), delay)


async def test_a_new_key_is_told_at_once_and_signs_after_the_delay(make: Make) -> None:
    async with make(timedelta(seconds=0.3)).running() as registry:
        old = kid(await registry.token())
        rotation = await registry.issuer.rotate(ROOT)
        assert registry.told() == {old, rotation.kid}
        assert kid(await registry.token()) == old
        await eventually_async(lambda: registry.keyring.key(rotation.kid))

        async def signs() -> bool:
            return kid(await registry.token()) == rotation.kid

        await eventually_async(signs)


async def test_tokens_of_the_old_key_stay_good(make: Make) -> None:
    async with make(timedelta(0)).running() as registry:
        before = await registry.token()
        rotation = await registry.issuer.rotate(ROOT)
        await eventually_async(lambda: registry.keyring.key(rotation.kid))
        await registry.issuer.tidy()
        assert registry.knows(before)
        assert registry.told() == {kid(before), rotation.kid}


async def test_while_nats_is_away_no_key_signs_that_nobody_could_learn(make: Make, nats_server: NatsServer) -> None:
    async with make(timedelta(0)).running() as registry:
        old = kid(await registry.token())
        await eventually_async(lambda: registry.keyring.key(old))
        nats_server.kill()
        await eventually_async(lambda: not registry.bus.connected)
        rotation = await registry.issuer.rotate(ROOT)
        for _ in range(3):
            await registry.issuer.refresh()
            assert kid(await registry.token()) == old
        nats_server.start()

        async def signs() -> bool:
            return kid(await registry.token()) == rotation.kid

        await eventually_async(signs, 30)
        token = await registry.token()
        # There is no delay here, and the other service comes back a moment later.
        await eventually_async(lambda: registry.knows(token))


async def test_an_old_key_goes_once_nothing_needs_it(make: Make) -> None:
    async with make(timedelta(0)).running() as registry:
        before = await registry.token()
        rotation = await registry.issuer.rotate(ROOT)

        async def signs() -> bool:
            return kid(await registry.token()) == rotation.kid

        await eventually_async(signs)
        await eventually_async(lambda: registry.keyring.key(kid(before)) and registry.keyring.key(rotation.kid))
        # Its last token has expired, and yet another replica might still sign with it.
        await registry.sql(f"UPDATE token SET expires_at = now() - interval '1 hour' WHERE kid = '{kid(before)}'")
        await registry.issuer.tidy()
        await registry.issuer.refresh()
        assert registry.told() == {kid(before), rotation.kid}
        await registry.sql("UPDATE signing_key SET published_at = published_at - interval '1 hour'")
        await registry.issuer.refresh()
        await registry.issuer.tidy()
        await eventually_async(lambda: registry.told() == {rotation.kid})
        await eventually_async(lambda: registry.keyring.key(kid(before)) is None)
        assert not registry.knows(before)
        assert registry.knows(await registry.token())


async def test_a_key_that_is_to_come_does_not_drop_the_one_that_signs(make: Make) -> None:
    async with make(NEVER).running() as registry:
        old = kid(await registry.token())
        await registry.sql("UPDATE token SET expires_at = now() - interval '1 hour'")
        rotation = await registry.issuer.rotate(ROOT)
        await eventually_async(lambda: registry.keyring.key(rotation.kid))
        await registry.issuer.tidy()
        await registry.issuer.refresh()
        assert registry.told() == {old, rotation.kid}
        assert kid(await registry.token()) == old


async def test_no_good_request_is_refused_while_keys_change(make: Make) -> None:
    """Two replicas sign, one of them rotates, a service that hears of it by NATS alone verifies."""
    delay = timedelta(seconds=0.5)
    one, two = make(delay), make(delay)
    refused, checked, signed_by = 0, 0, set[str]()
    stop = asyncio.Event()

    async def load(replica: Replica) -> None:
        nonlocal refused, checked
        while not stop.is_set():
            token = await replica.token()
            signed_by.add(kid(token))
            refused += not one.knows(token)
            checked += 1

    async with one.running(), two.running():
        first = await one.token()
        await eventually_async(lambda: one.knows(first))
        loads = [asyncio.create_task(load(replica)) for replica in (one, two) for _ in range(2)]
        for _ in range(3):
            rotation = await one.issuer.rotate(ROOT)
            await eventually_async(partial(contains, signed_by, rotation.kid))
        stop.set()
        await asyncio.gather(*loads)
        assert one.knows(first)
    assert (refused, len(signed_by)) == (0, 4)
    assert checked > 50


async def test_a_session_counts_as_a_use_of_its_key(make: Make) -> None:
    async with make(timedelta(0)).running() as registry:
        old = kid(await registry.token())
        await registry.sql("UPDATE token SET kind = 'session'")
        rotation = await registry.issuer.rotate(ROOT)
        await eventually_async(lambda: registry.keyring.key(rotation.kid))
        await registry.sql("UPDATE signing_key SET published_at = published_at - interval '1 hour'")
        await registry.issuer.refresh()
        await registry.issuer.tidy()
        assert old in registry.told()


async def test_what_expired_long_ago_leaves_the_table(fresh_database: Callable[[str], str]) -> None:
    database = Database(fresh_database("sluice_registry"), pool_size=2)
    ages = {"tokens": timedelta(days=30), "sessions": timedelta(days=7)}
    issuer = TokenIssuer(
        database, Keyring(), retention=ages["tokens"], session_retention=ages["sessions"], delay=timedelta(0)
    )
    await issuer.start()
    admin = "INSERT INTO token (id, name, kind, subject, roles, scopes, created_by, expires_at, revoked_at) VALUES "
    rows = [
        f"('{kind}-{days}', 'x', '{kind}', 'ada', '{{}}', '{{}}', 'root', now() - interval '{days} days', {revoked})"
        for kind, days, revoked in (
            *(("signed", days, "NULL") for days in (1, 29, 31)),
            *(("session", days, "now()") for days in (1, 6, 8)),
            *(("opaque", days, "NULL") for days in (-1, 31)),
        )
    ]
    rows.append("('for-ever', 'x', 'opaque', 'ada', '{}', '{}', 'root', NULL, now() - interval '900 days')")
    database.transact(lambda connection: connection.execute(text(admin + ", ".join(rows))))
    await issuer.tidy()
    left = database.read(lambda connection: set(connection.execute(text("SELECT id FROM token")).scalars()))
    # One that was revoked and never expires stays: an import must not bring it back.
    assert left == {"signed-1", "signed-29", "session-1", "session-6", "opaque--1", "for-ever"}
    database.close()


def test_keys_are_rotated_by_admins_only(door: Door) -> None:
    made = door.token("manager", scopes=["tokens:admin"])
    door.call("POST", "keys/rotate", status=403, headers={"Authorization": f"Token {made['token']}"})
    door.call("POST", "keys/rotate", status=401, headers={})
    rotation = door.call("POST", "keys/rotate", status=200)
    kids = [jwk["kid"] for jwk in door.client.get("/.well-known/jwks.json").json()["keys"]]
    assert rotation["kid"] in kids
    assert len(kids) == 2
    # Nobody could have learnt it: there is no NATS here.
    assert kid(door.token("ada")["token"]) != rotation["kid"]


async def test_a_passphrase_encrypts_new_keys_too(fresh_database: Callable[[str], str]) -> None:
    database = Database(fresh_database("sluice_registry"), pool_size=2)
    issuer = TokenIssuer(database, Keyring(), passphrase=SecretStr("s3cret"))
    await issuer.start()
    await issuer.rotate(ROOT)
    statement = text("SELECT private_pem FROM signing_key")
    pems = database.read(lambda connection: [bytes(row[0]) for row in connection.execute(statement)])
    assert [b"ENCRYPTED" in pem for pem in pems] == [True, True]
    database.close()
