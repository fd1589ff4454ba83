"""Every service learns keys and tokens through NATS, whatever happens to it or to the buckets."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial

import pytest
from pydantic import SecretStr
from sqlalchemy import text
from starlette.testclient import TestClient

from sluice_core.auth import KEYS, REVOKED, TOKENS, Authenticator, Identity, Keyring, Refused, TokensAway, digest
from sluice_core.bus import KEYS as KEYS_BUCKET
from sluice_core.bus import REVOKED as REVOKED_BUCKET
from sluice_core.bus import TOKENS as TOKENS_BUCKET
from sluice_core.bus import Bus
from sluice_core.database import Database
from sluice_core.testing import NatsServer, eventually_async
from sluice_registry.service.identity import Grant, TokenIssuer
from sluice_registry.service.projection import Projection

from ..conftest import Start

BUCKETS = (KEYS_BUCKET, TOKENS_BUCKET, REVOKED_BUCKET)
ROOT = Identity("root", frozenset({"admin"}), None)
GRANT = Grant("laptop", "ada", ["reader"], [], timedelta(days=1))
# Nothing in these tests may wait for a regular look, unless it says so.
NEVER = 3600.0


class Registry:
    """What the registry has of this, and another service that listens."""

    def __init__(self, url: str, nats: NatsServer) -> None:
        self.nats = nats
        self.database = Database(url, pool_size=4)
        self.issuer = TokenIssuer(
            self.database, Keyring(), admin_token=SecretStr("first-token"), changed=lambda: self.projection.wake()
        )
        self.bus = Bus(nats.url(), name="registry", keeps=BUCKETS)
        self.other = Bus(nats.url(), name="logs")
        self.keyring = Keyring()
        self.service = Authenticator(self.keyring)

    @asynccontextmanager
    async def running(self, *, period: float = NEVER) -> AsyncIterator["Registry"]:
        self.projection = Projection(self.bus, self.issuer.refresh, self.issuer.keys.published, period=period)
        await self.issuer.start()
        await self.bus.open()
        await self.other.open()
        tasks = [asyncio.create_task(self.projection.run())]
        for bucket, feed in self.keyring.feeds.items():
            ready = partial(self.keyring.mark_read, bucket)
            tasks.append(asyncio.create_task(self.other.watch(bucket, feed, ready)))
        try:
            yield self
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            await self.other.close()
            await self.bus.close()
            self.database.close()

    def knows(self, token: str) -> str | None:
        """Return whose token the other service takes this for."""
        try:
            caller = self.service.authenticate([(b"x-auth-token", token.encode())])
        except (Refused, TokensAway):
            return None
        return caller.subject if caller else None

    async def sql(self, statement: str) -> None:
        await self.database.run(lambda: self.database.transact(lambda connection: connection.execute(text(statement))))


@pytest.fixture
def registry(fresh_database: Callable[[str], str], nats_server: NatsServer) -> Registry:
    return Registry(fresh_database("sluice_registry"), nats_server)


async def test_another_service_knows_signed_and_opaque_tokens(registry: Registry) -> None:
    async with registry.running():
        token, _ = await registry.issuer.create(GRANT, ROOT)
        await eventually_async(lambda: registry.knows(token) == "ada")
        await eventually_async(lambda: registry.knows("first-token") == "admin")
        await eventually_async(lambda: registry.keyring.ready)


async def test_what_the_registry_did_not_put_into_a_bucket_is_taken_out(registry: Registry) -> None:
    async with registry.running():
        await eventually_async(lambda: registry.knows("first-token") == "admin")
        forged = b'{"id":"x","subject":"mallory","roles":["admin"]}'
        await registry.bus.put(TOKENS, digest("forged"), forged)
        await registry.bus.put(REVOKED, "everybody", b"")
        await registry.bus.delete(TOKENS, digest("first-token"))
        await eventually_async(lambda: registry.knows("forged") is None and not registry.keyring.revoked("everybody"))
        await eventually_async(lambda: registry.knows("first-token") == "admin")


async def test_a_nats_that_comes_back_empty_is_told_everything_again(registry: Registry) -> None:
    async with registry.running():
        token, _ = await registry.issuer.create(GRANT, ROOT)
        await eventually_async(lambda: registry.knows(token) == "ada" and registry.knows("first-token") == "admin")
        session = await registry.bus.session()
        for bucket in BUCKETS:
            await session.api(f"STREAM.DELETE.{bucket.stream}")
        registry.nats.kill()
        await eventually_async(lambda: not registry.bus.connected)
        registry.keyring.apply_token(digest("first-token"), None)
        registry.nats.start()
        await eventually_async(lambda: registry.knows(token) == "ada" and registry.knows("first-token") == "admin", 30)


async def test_while_nats_is_away_the_last_known_tokens_hold(registry: Registry) -> None:
    async with registry.running():
        token, _ = await registry.issuer.create(GRANT, ROOT)
        await eventually_async(lambda: registry.knows(token) == "ada")
        registry.nats.kill()
        await eventually_async(lambda: not registry.other.connected)
        assert registry.knows(token) == "ada"


async def test_what_changes_in_the_database_alone_is_told_at_the_next_look(registry: Registry) -> None:
    async with registry.running(period=0.05):
        token, row = await registry.issuer.create(GRANT, ROOT)
        await eventually_async(lambda: registry.knows(token) == "ada")
        await registry.sql(f"UPDATE token SET revoked_at = now() WHERE id = '{row['id']}'")
        await eventually_async(lambda: registry.knows(token) is None)
        assert registry.keyring.revoked(row["id"])
        await registry.sql("UPDATE token SET revoked_at = now() WHERE sha256 IS NOT NULL")
        await eventually_async(lambda: registry.knows("first-token") is None)


async def test_a_revocation_leaves_the_bucket_once_the_token_has_expired(registry: Registry) -> None:
    async with registry.running(period=0.05):
        _, row = await registry.issuer.create(GRANT, ROOT)
        await registry.sql(f"UPDATE token SET revoked_at = now() WHERE id = '{row['id']}'")
        await eventually_async(lambda: registry.keyring.revoked(row["id"]))
        await registry.sql(f"UPDATE token SET expires_at = now() - interval '1 hour' WHERE id = '{row['id']}'")
        await eventually_async(lambda: not registry.keyring.revoked(row["id"]))


async def test_two_replicas_do_not_undo_each_other(registry: Registry) -> None:
    twin = TokenIssuer(registry.database, Keyring())
    changes: list[str] = []
    async with registry.running(period=0.02):
        await twin.start()
        second = asyncio.create_task(Projection(registry.bus, twin.refresh, twin.keys.published, period=0.03).run())
        watch = asyncio.create_task(registry.other.watch(TOKENS, lambda key, _: changes.append(key)))
        for number in range(20):
            statement = (
                "INSERT INTO token (id, name, subject, roles, scopes, sha256, created_by) VALUES "
                f"('t{number}', 'x', 'u{number}', '{{}}', '{{}}', '{digest(f'token-{number}')}', 'test')"
            )
            await registry.sql(statement)
        await eventually_async(lambda: all(registry.knows(f"token-{n}") == f"u{n}" for n in range(20)))
        await eventually_async(lambda: len(set(changes)) == 21)
        for task in (second, watch):
            task.cancel()
        await asyncio.wait([second, watch])
    # Whoever was first has put it; at most both did, and nobody took it out in between.
    assert max(changes.count(key) for key in set(changes)) <= 3


def test_a_registry_without_nats_knows_its_tokens_from_the_start(start: Start) -> None:
    client: TestClient = start(admin_token=SecretStr("first-token"))
    admin = {"Authorization": "Bearer first-token"}
    made = client.post("/api/auth/tokens/", json={"name": "x", "roles": ["agent"]}, headers=admin).json()
    number = client.post("/api/state/next-agent-id/", headers={"Authorization": f"Token {made['token']}"})
    assert number.json() == {"agent_id": 1, "status": "success"}


def test_a_nats_that_comes_later_is_told(start: Start, nats_server: NatsServer) -> None:
    nats_server.kill()
    start(admin_token=SecretStr("first-token"), nats_url=nats_server.url())
    nats_server.start()
    asyncio.run(_told(nats_server.url()))


async def _told(url: str) -> None:
    bus, keys = Bus(url, name="logs"), set[str]()
    await bus.open()
    watches = [
        asyncio.create_task(bus.watch(bucket, lambda key, value: keys.add(key) if value else None))
        for bucket in (KEYS, TOKENS)
    ]
    await eventually_async(lambda: digest("first-token") in keys and len(keys) == 2, 30)
    for watch in watches:
        watch.cancel()
    await asyncio.wait(watches)
    await bus.close()
