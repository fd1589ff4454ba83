"""Tokens of the facility: what its provider has signed is somebody, all else a refusal, also while it is away."""

import asyncio
import hmac
import json
import socket
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey

from sluice_core.auth import ROLES, Authenticator, Refused, Signer, TokensAway, generate_key, public_jwk, user_key
from sluice_core.auth.facility import Facility
from sluice_core.auth.provider import PAUSE, Provider
from sluice_core.testing import eventually_async
from sluice_core.testing.provider import AUDIENCE, ProviderServer, facility_provider
from sluice_core.testing.tokens import read_keyring

GROUPS = [("physics", "agent"), ("physics", "pcs"), ("admins", "admin")]


@pytest.fixture(scope="module")
def standing() -> Iterator[ProviderServer]:
    """A provider that no test changes."""
    with facility_provider() as server:
        yield server


@pytest.fixture
def provider() -> Iterator[ProviderServer]:
    """A provider of the test's own."""
    with facility_provider() as server:
        yield server


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Service:
    """A service that accepts tokens of a facility."""

    def __init__(self, server: ProviderServer, *, audience: str = AUDIENCE, **names: str) -> None:
        self.clock = Clock()
        self.keyring = read_keyring()
        self.provider = Provider(server.issuer, clock=self.clock)
        self.facility = Facility(self.provider, audience=audience, groups=GROUPS, **names)
        self.auth = Authenticator(self.keyring, facility=self.facility)

    async def identify(self, token: str) -> Any:
        return await self.auth.identify({"method": "GET", "headers": [(b"authorization", b"Bearer " + token.encode())]})

    async def refusal(self, token: str) -> str:
        with pytest.raises(Refused) as refused:
            await self.identify(token)
        return refused.value.detail

    async def close(self) -> None:
        await self.provider.close()


def run(server: ProviderServer, test: Callable[[Service], Any], **options: str) -> None:
    async def whole() -> None:
        service = Service(server, **options)
        try:
            await test(service)
        finally:
            await service.close()

    asyncio.run(whole())


def b64(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


@pytest.mark.parametrize("algorithm", ["RS256", "ES256"])
@pytest.mark.parametrize("audience", [AUDIENCE, ["other", AUDIENCE]])
def test_a_token_of_the_facility_may_what_its_groups_may(
    standing: ProviderServer, algorithm: Any, audience: Any
) -> None:
    async def test(service: Service) -> None:
        identity = await service.identify(standing.token(algorithm, aud=audience, jti="j"))
        assert (identity.subject, identity.token_id, identity.by) == ("ada", "j", "facility")
        assert identity.scopes == ROLES["agent"] | ROLES["pcs"]
        assert identity.namespaces is None

    run(standing, test)


@pytest.mark.parametrize(
    ("groups", "scopes"),
    [
        (["admins"], ROLES["admin"]),
        ("physics", ROLES["agent"] | ROLES["pcs"]),
        (["nobody's", "PHYSICS", "admin"], frozenset()),
        (None, frozenset()),
        ({"physics": 1}, frozenset()),
        ([["admins"], 3, None], frozenset()),
    ],
)
def test_who_is_in_no_group_with_a_role_is_somebody_who_may_nothing(
    standing: ProviderServer, groups: Any, scopes: frozenset[str]
) -> None:
    async def test(service: Service) -> None:
        assert (await service.identify(standing.token(groups=groups))).scopes == scopes

    run(standing, test)


def test_claims_are_called_as_the_settings_say(standing: ProviderServer) -> None:
    async def test(service: Service) -> None:
        claims: dict[str, Any] = {"https://x.test/roles": ["admins"], "groups": ["physics"]}
        token = standing.token(sub="auth0|77", **claims)
        identity = await service.identify(token)
        assert (identity.subject, identity.scopes) == ("auth0|77", ROLES["admin"])

    run(standing, test, username_claim="sub", groups_claim="https://x.test/roles")


def forge_none(server: ProviderServer) -> str:
    _, payload, _ = server.token().split(".")
    return f"{b64(json.dumps({'alg': 'none', 'kid': server.key().kid}).encode())}.{payload}."


def forge_hs256(server: ProviderServer) -> str:
    key = server.key().public_key
    secret = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    _, payload, _ = server.token().split(".")
    signed = f"{b64(json.dumps({'alg': 'HS256', 'kid': server.key().kid}).encode())}.{payload}"
    return f"{signed}.{b64(hmac.digest(secret, signed.encode(), 'sha256'))}"


def forge_other_key(server: ProviderServer) -> str:
    head, payload, _ = server.token().split(".")
    other = jwt.encode({"alg": "RS256", "kid": "x"}, {}, RSAKey.generate_key(2048))
    return f"{head}.{payload}.{other.rpartition('.')[2]}"


def forge_own_key_in_header(server: ProviderServer) -> str:
    key = ECKey.generate_key("P-256")
    header = {"alg": "ES256", "kid": server.key("ES256").kid, "jwk": key.as_dict(private=False)}
    return jwt.encode(header, {"iss": server.issuer, "aud": AUDIENCE, "sub": "x", "exp": int(time.time()) + 60}, key)


def forge_critical(server: ProviderServer) -> str:
    _, payload, _ = server.token().split(".")
    header = {"alg": "RS256", "kid": server.key().kid, "crit": ["x"], "x": 1}
    signed = f"{b64(json.dumps(header).encode())}.{payload}"
    key = server.key().private_key
    assert isinstance(key, RSAPrivateKey)
    return f"{signed}.{b64(key.sign(signed.encode(), PKCS1v15(), SHA256()))}"


NOW = int(time.time())
BAD: dict[str, Callable[[ProviderServer], str]] = {
    "none": forge_none,
    "HS256 with the public key": forge_hs256,
    "PS256": lambda server: _other_algorithm(server, "PS256"),
    "RS512": lambda server: _other_algorithm(server, "RS512"),
    "signed by somebody else": forge_other_key,
    "key of its own in the header": forge_own_key_in_header,
    "RS256 with the key of ES256": lambda server: server.token(header={"kid": server.key("ES256").kid}),
    "unknown kid": lambda server: server.token(header={"kid": "unknown"}),
    "no kid": lambda server: server.token(header={"kid": None}),
    "critical extension": forge_critical,
    "logout token": lambda server: server.token(header={"typ": "logout+jwt"}),
    "wrong audience": lambda server: server.token(aud="other"),
    "audience that begins alike": lambda server: server.token(aud=AUDIENCE + "/x"),
    "no audience": lambda server: server.token(aud=None),
    "empty audience": lambda server: server.token(aud=[]),
    "wrong issuer": lambda server: server.token(iss="https://elsewhere.test"),
    "issuer with a slash": lambda server: server.token(iss=server.issuer + "/"),
    "no issuer": lambda server: server.token(iss=None),
    "expired": lambda server: server.token(exp=NOW - 60),
    "never expires": lambda server: server.token(exp=None),
    "expires in words": lambda server: server.token(exp="tomorrow"),
    "expires beyond numbers": lambda server: server.token(exp=float("inf")),
    "not yet valid": lambda server: server.token(nbf=NOW + 3600),
    "issued in the future": lambda server: server.token(iat=NOW + 3600),
    "no subject": lambda server: server.token(sub=None),
    "subject no text": lambda server: server.token(sub=7),
    "giant subject": lambda server: server.token(sub="x" * 300),
    "no user name": lambda server: server.token(preferred_username=None),
    "user name with a space": lambda server: server.token(preferred_username="ada admin"),
    "user name with a newline": lambda server: server.token(preferred_username="ada\n"),
    "giant user name": lambda server: server.token(preferred_username="a" * 151),
    "user name no text": lambda server: server.token(preferred_username=["ada"]),
    "id no text": lambda server: server.token(jti=7),
    "cut": lambda server: server.token()[:-20],
    "two parts": lambda server: server.token().rpartition(".")[0],
    "four parts": lambda server: server.token() + ".x",
    "header alone": lambda server: server.token().partition(".")[0],
    "nested header": lambda server: b64(b'{"alg":"RS256","kid":' + b"[" * 4000 + b"]" * 4000 + b"}")[:8000] + ".x.x",
}


def _other_algorithm(server: ProviderServer, algorithm: str) -> str:
    claims = {"iss": server.issuer, "aud": AUDIENCE, "sub": "1", "preferred_username": "x", "exp": NOW + 600}
    return jwt.encode({"alg": algorithm, "kid": server.key().kid}, claims, server.key(), algorithms=[algorithm])


@pytest.mark.parametrize("name", BAD)
def test_a_bad_token_is_refused_in_the_contracts_words(standing: ProviderServer, name: str) -> None:
    async def test(service: Service) -> None:
        await service.identify(standing.token())
        assert await service.refusal(BAD[name](standing)) == "Invalid token."

    run(standing, test)


def test_a_token_ends_though_it_is_remembered(standing: ProviderServer) -> None:
    async def test(service: Service) -> None:
        token = standing.token(jti="stolen", preferred_username="eve")
        await service.identify(token)
        service.keyring.apply_revoked("stolen", b"")
        assert await service.refusal(token) == "Invalid token."
        service.keyring.apply_revoked("stolen", None)
        await service.identify(token)
        service.keyring.apply_revoked(user_key("eve"), b"")
        assert await service.refusal(token) == "User inactive or deleted."

    run(standing, test)


def test_our_own_tokens_are_good_beside_those_of_the_facility(standing: ProviderServer) -> None:
    async def test(service: Service) -> None:
        key = generate_key()
        signer = Signer(key)
        service.keyring.apply_key(signer.kid, msgspec.json.encode(public_jwk(key.public_key())))
        token, _ = signer.sign("own", expires_in=timedelta(hours=1), roles=["reader"])
        assert (await service.identify(token)).subject == "own"
        assert standing.asked["/jwks"] == before

    before = standing.asked["/jwks"]
    run(standing, test)


def test_without_an_audience_no_token_of_the_facility_is_good(standing: ProviderServer) -> None:
    async def test(service: Service) -> None:
        assert await service.refusal(standing.token()) == "Invalid token."

    run(standing, test, audience="")


def test_a_key_that_the_provider_took_up_is_learned_from_the_first_token(provider: ProviderServer) -> None:
    async def test(service: Service) -> None:
        old = provider.token()
        await service.identify(old)
        provider.rotate()
        service.clock.now += PAUSE
        assert (await service.identify(provider.token())).subject == "ada"
        assert await service.refusal(old) == "Invalid token."

    run(provider, test)


def test_unknown_keys_make_nobody_ask_twice_in_half_a_minute(provider: ProviderServer) -> None:
    async def test(service: Service) -> None:
        bad = [provider.token(header={"kid": f"k{n}"}) for n in range(20)]
        await asyncio.gather(*(service.refusal(each) for each in bad))
        assert provider.asked["/jwks"] == 1
        service.clock.now += PAUSE - 1
        await service.refusal(bad[0])
        assert provider.asked["/jwks"] == 1
        service.clock.now += 1
        await service.refusal(bad[0])
        assert provider.asked["/jwks"] == 2
        # Known keys were never in question.
        await service.identify(provider.token())
        assert provider.asked["/jwks"] == 2

    run(provider, test)


def test_while_the_provider_is_away_what_is_known_holds(provider: ProviderServer) -> None:
    async def test(service: Service) -> None:
        await service.identify(provider.token())
        provider.stop()
        service.clock.now += 7200
        assert (await service.identify(provider.token())).subject == "ada"
        assert await service.refusal(provider.token(header={"kid": "new"})) == "Invalid token."
        assert (await service.identify(provider.token())).subject == "ada"
        provider.start()

    run(provider, test)


def test_a_service_that_starts_without_the_provider_learns_when_it_is_back(provider: ProviderServer) -> None:
    async def test(service: Service) -> None:
        provider.stop()
        with pytest.raises(TokensAway):
            await service.identify(provider.token())
        provider.start()
        service.clock.now += PAUSE
        assert (await service.identify(provider.token())).subject == "ada"

    run(provider, test)


def test_a_provider_that_hangs_holds_up_a_request_for_two_seconds_at_most(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def test(port: int) -> None:
        provider = Provider(f"http://127.0.0.1:{port}")
        monkeypatch.setattr("sluice_core.auth.provider.WAIT", 0.2)
        began = time.monotonic()
        await provider.learn("k")
        assert time.monotonic() - began < 1.0
        await provider.close()

    # The kernel takes connections that nobody ever looks at.
    with socket.create_server(("127.0.0.1", 0)) as silent:
        asyncio.run(test(silent.getsockname()[1]))


def test_keys_are_kept_fresh_without_requests(provider: ProviderServer) -> None:
    async def test() -> None:
        learner = Provider(provider.issuer)
        running = asyncio.create_task(learner.run())
        await eventually_async(lambda: learner.key(provider.key().kid or "") is not None)
        learner._due = learner._not_before = 0.0
        running.cancel()
        old = provider.key().kid or ""
        provider.rotate()
        running = asyncio.create_task(learner.run())
        await eventually_async(lambda: learner.key(provider.key("ES256").kid or "") is not None)
        assert learner.key(old) is None
        running.cancel()
        await learner.close()

    asyncio.run(test())


def test_a_websocket_learns_a_key_before_it_asks_who_it_is(standing: ProviderServer) -> None:
    async def test(service: Service) -> None:
        headers = [(b"authorization", b"Bearer " + standing.token().encode())]
        with pytest.raises(TokensAway):
            service.auth.authenticate(headers)
        await service.auth.prepare(headers)
        identity = service.auth.authenticate(headers)
        assert identity is not None
        assert identity.subject == "ada"
        await service.auth.prepare([(b"authorization", b"Bearer a b")])

    run(standing, test)
