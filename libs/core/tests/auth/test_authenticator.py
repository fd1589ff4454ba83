"""A good token is an identity; everything else is nobody or a refusal, at once and for good."""

import base64
import hmac
import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import patch

import jwt
import msgspec
import pytest
import time_machine
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sluice_core.auth import (
    ROLES,
    Authenticator,
    Identity,
    Refused,
    Signer,
    TokenRecord,
    digest,
    generate_key,
)
from sluice_core.auth.credentials import MAX_LENGTH
from sluice_core.auth.tokens import LEEWAY
from sluice_core.testing.tokens import read_keyring

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)

KEY = generate_key()
SIGNER = Signer(KEY)
OTHER = generate_key()


def service() -> Authenticator:
    """A service that trusts `KEY`."""
    keyring = read_keyring()
    keyring.apply_key(SIGNER.kid, msgspec.json.encode(SIGNER.jwk))
    return Authenticator(keyring)


def sent(token: str) -> list[tuple[bytes, bytes]]:
    return [(b"host", b"x"), (b"authorization", b"Token " + token.encode())]


def refusal(auth: Authenticator, token: str) -> str:
    with pytest.raises(Refused) as refused:
        auth.authenticate(sent(token))
    return refused.value.detail


# --- signed tokens


@pytest.mark.parametrize(
    "header",
    [
        lambda token: (b"authorization", b"Token " + token),
        lambda token: (b"authorization", b"bearer " + token),
        lambda token: (b"authorization", b"ApiKey " + token),
        lambda token: (b"x-auth-token", token),
        lambda token: (b"token", token),
    ],
)
def test_a_signed_token_is_an_identity_in_every_spelling(header: Callable[[bytes], tuple[bytes, bytes]]) -> None:
    token, token_id = SIGNER.sign("ada", expires_in=DAY, roles=["agent"], scopes=["logs:admin"])
    identity = service().authenticate([header(token.encode())])
    assert identity == Identity("ada", ROLES["agent"] | {"logs:admin"}, token_id)


def test_no_header_is_nobody() -> None:
    assert service().authenticate([(b"host", b"x")]) is None


def test_every_basic_is_refused_while_there_are_no_users() -> None:
    with pytest.raises(Refused, match=r"^Invalid username/password\.$"):
        service().authenticate([(b"authorization", b"Basic YTpi")])


def test_every_token_has_an_id_of_its_own() -> None:
    assert len({SIGNER.sign("ada", expires_in=DAY)[1] for _ in range(10)}) == 10


def test_a_token_without_rights_is_an_identity_that_may_nothing() -> None:
    identity = service().authenticate(sent(SIGNER.sign("ada", expires_in=DAY)[0]))
    assert identity is not None
    assert identity.scopes == frozenset()


@pytest.mark.parametrize(
    "wrong",
    [
        {"subject": ""},
        {"subject": "ada", "roles": ["king"]},
        {"subject": "ada", "scopes": [""]},
        {"subject": "ada", "scopes": ["logs:write admin"]},
    ],
)
def test_the_signer_refuses_what_no_service_would_read_as_meant(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"."):
        SIGNER.sign(expires_in=DAY, **wrong)


# --- forgeries


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def claims(**changed: object) -> dict[str, object]:
    now = int(datetime.now(UTC).timestamp())
    good: dict[str, object] = {
        "iss": "sluice",
        "aud": "sluice",
        "sub": "eve",
        "jti": "j1",
        "iat": now,
        "exp": now + 3600,
        "roles": ["admin"],
    }
    return {name: value for name, value in (good | changed).items() if value is not ...}


def signed(body: object, *, key: Ed25519PrivateKey = KEY, header: object = None) -> str:
    """A token whose signature is right for `key`, whatever its header and body say."""
    header = {"alg": "EdDSA", "typ": "JWT", "kid": SIGNER.kid} if header is None else header
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    signing_input = f"{b64(json.dumps(header).encode())}.{b64(content)}"
    return f"{signing_input}.{b64(key.sign(signing_input.encode()))}"


def hs256(secret: bytes) -> str:
    """A token whose HMAC is right for `secret`."""
    signing_input = (
        b64(json.dumps({"alg": "HS256", "kid": SIGNER.kid}).encode()) + "." + b64(json.dumps(claims()).encode())
    )
    return f"{signing_input}.{b64(hmac.digest(secret, signing_input.encode(), 'sha256'))}"


def unsigned(alg: str, signature: str = "") -> str:
    header = b64(json.dumps({"alg": alg, "kid": SIGNER.kid}).encode())
    return f"{header}.{b64(json.dumps(claims()).encode())}.{signature}"


def nested(depth: int) -> bytes:
    return b'{"a":' * depth + b"1" + b"}" * depth


PUBLIC = KEY.public_key()
NOW = int(datetime.now(UTC).timestamp())

FORGERIES = {
    "no signature": lambda: unsigned("none"),
    "none spelled otherwise": lambda: unsigned("NoNe"),
    "no signature under the right algorithm": lambda: unsigned("EdDSA"),
    "zero signature": lambda: unsigned("EdDSA", b64(bytes(64))),
    "HMAC with the raw public key": lambda: hs256(PUBLIC.public_bytes_raw()),
    "HMAC with the public key as PEM": lambda: hs256(
        PUBLIC.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    ),
    "HMAC with the public JWK": lambda: hs256(json.dumps(SIGNER.jwk).encode()),
    "HMAC with an empty key": lambda: hs256(b""),
    "HMAC with the kid": lambda: hs256(SIGNER.kid.encode()),
    "another key under our kid": lambda: signed(claims(), key=OTHER),
    "another key that brings itself along": lambda: signed(
        claims(), key=OTHER, header={"alg": "EdDSA", "kid": SIGNER.kid, "jwk": Signer(OTHER).jwk}
    ),
    "another key under its own kid": lambda: Signer(OTHER).sign("eve", expires_in=DAY, roles=["admin"])[0],
    "Ed448 under our kid": lambda: jwt.encode(
        claims(), Ed448PrivateKey.generate(), algorithm="EdDSA", headers={"kid": SIGNER.kid}
    ),
    "no kid": lambda: signed(claims(), header={"alg": "EdDSA"}),
    "empty kid": lambda: signed(claims(), header={"alg": "EdDSA", "kid": ""}),
    "kid null": lambda: signed(claims(), header={"alg": "EdDSA", "kid": None}),
    "kid a list": lambda: signed(claims(), header={"alg": "EdDSA", "kid": [SIGNER.kid]}),
    "kid an object": lambda: signed(claims(), header={"alg": "EdDSA", "kid": {}}),
    "kid a path": lambda: signed(claims(), header={"alg": "EdDSA", "kid": "../../dev/null"}),
    "no alg": lambda: signed(claims(), header={"kid": SIGNER.kid}),
    "alg null": lambda: signed(claims(), header={"alg": None, "kid": SIGNER.kid}),
    "alg a list": lambda: signed(claims(), header={"alg": ["EdDSA"], "kid": SIGNER.kid}),
    "alg an object": lambda: signed(claims(), header={"alg": {}, "kid": SIGNER.kid}),
    "unknown critical header": lambda: signed(claims(), header={"alg": "EdDSA", "kid": SIGNER.kid, "crit": ["x"]}),
    "detached payload": lambda: signed(
        claims(), header={"alg": "EdDSA", "kid": SIGNER.kid, "b64": False, "crit": ["b64"]}
    ),
    "header a list": lambda: signed(claims(), header=["EdDSA"]),
    "header a deep nest": lambda: f"{b64(nested(1000))}.{b64(b'{}')}.{b64(bytes(64))}",
    "header a giant number": lambda: f"{b64(b'1' * 5000)}.{b64(b'{}')}.{b64(bytes(64))}",
    "another audience": lambda: signed(claims(aud="other")),
    "several audiences": lambda: signed(claims(aud=["sluice", "other"])),
    "audience an object": lambda: signed(claims(aud={"sluice": 1})),
    "audience a list of lists": lambda: signed(claims(aud=[["sluice"]])),
    "empty audience": lambda: signed(claims(aud="")),
    "another issuer": lambda: signed(claims(iss="other")),
    "issuer a list": lambda: signed(claims(iss=["sluice"])),
    "issuer an object": lambda: signed(claims(iss={})),
    "no exp": lambda: signed(claims(exp=...)),
    "no aud": lambda: signed(claims(aud=...)),
    "no iss": lambda: signed(claims(iss=...)),
    "no sub": lambda: signed(claims(sub=...)),
    "no jti": lambda: signed(claims(jti=...)),
    "expired": lambda: signed(claims(exp=NOW - LEEWAY - 1)),
    "expired long ago": lambda: signed(claims(exp=-(10**30))),
    "exp null": lambda: signed(claims(exp=None)),
    "exp a text": lambda: signed(claims(exp=str(NOW + 3600))),
    "exp a fraction": lambda: signed(claims(exp=NOW + 3600.5)),
    "exp true": lambda: signed(claims(exp=True)),
    "exp infinite": lambda: signed(claims(exp=float("inf"))),
    "exp not a number": lambda: signed(claims(exp=float("nan"))),
    "exp a list": lambda: signed(claims(exp=[NOW])),
    "not valid yet": lambda: signed(claims(nbf=NOW + 3600)),
    "nbf an object": lambda: signed(claims(nbf={})),
    "nbf infinite": lambda: signed(claims(nbf=float("inf"))),
    "issued in the future": lambda: signed(claims(iat=NOW + 3600)),
    "iat a list": lambda: signed(claims(iat=[])),
    "empty sub": lambda: signed(claims(sub="")),
    "sub a number": lambda: signed(claims(sub=1)),
    "sub a list": lambda: signed(claims(sub=["ada"])),
    "empty jti": lambda: signed(claims(jti="")),
    "jti a list": lambda: signed(claims(jti=["j1"])),
    "scope a list": lambda: signed(claims(scope=["admin"])),
    "scope an object": lambda: signed(claims(scope={"admin": True})),
    "scope null": lambda: signed(claims(scope=None)),
    "roles a text": lambda: signed(claims(roles="admin")),
    "roles an object": lambda: signed(claims(roles={"admin": 1})),
    "roles unhashable": lambda: signed(claims(roles=[["admin"], {}])),
    "claims a list": lambda: signed([claims()]),
    "claims null": lambda: signed(b"null"),
    "claims no JSON": lambda: signed(b"\xff\x00"),
    "claims empty": lambda: signed(b""),
    "claims a deep nest": lambda: signed(nested(900)),
    "a token in a token": lambda: signed(SIGNER.sign("ada", expires_in=DAY)[0].encode()),
    "giant": lambda: signed(claims(sub="x" * MAX_LENGTH)),
    "two segments": lambda: "aaaa.bbbb",
    "five segments, as an encrypted one": lambda: "e30.e30.e30.e30.e30",
    "dots alone": lambda: "." * MAX_LENGTH,
    "a word": lambda: "abcdefghi",
}


@pytest.mark.parametrize("forge", FORGERIES.values(), ids=FORGERIES.keys())
def test_a_forgery_is_an_invalid_token_and_says_no_more(forge: Callable[[], str]) -> None:
    assert refusal(service(), forge()) == "Invalid token."


def test_the_forgers_tools_make_a_good_token_when_nothing_is_wrong() -> None:
    identity = service().authenticate(sent(signed(claims(scope="a:b c:d"))))
    assert identity == Identity("eve", frozenset({"admin", "a:b", "c:d"}), "j1")


@pytest.mark.parametrize("position", range(3))
def test_no_segment_of_a_token_can_be_exchanged(position: int) -> None:
    mine = SIGNER.sign("ada", expires_in=DAY, roles=["admin"])[0].split(".")
    yours = signed(claims(), key=OTHER, header={"kid": SIGNER.kid, "alg": "EdDSA", "x": 1}).split(".")
    mine[position] = yours[position]
    assert refusal(service(), ".".join(mine)) == "Invalid token."


def test_a_keyring_without_keys_trusts_nobody() -> None:
    assert refusal(Authenticator(read_keyring()), SIGNER.sign("ada", expires_in=DAY)[0]) == "Invalid token."


def test_another_installation_with_the_same_key_is_refused() -> None:
    auth = service()
    assert refusal(auth, Signer(KEY, issuer="elsewhere").sign("ada", expires_in=DAY)[0]) == "Invalid token."
    assert refusal(auth, Signer(KEY, audience="elsewhere").sign("ada", expires_in=DAY)[0]) == "Invalid token."


# The first text of a fresh clone builds a table of all characters, and the machine may be busy.
patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
_CLAIMS = ["iss", "aud", "sub", "jti", "iat", "nbf", "exp", "scope", "roles"]


@patient
@given(changed=st.dictionaries(st.sampled_from(_CLAIMS), _json))
def test_claims_of_any_type_are_an_identity_or_a_refusal(changed: dict[str, Any]) -> None:
    check(service(), sent(signed(claims(**changed))))


@patient
@given(header=_json | st.dictionaries(st.sampled_from(["alg", "kid", "typ", "crit", "b64", "jwk", "zip"]), _json))
def test_a_jose_header_of_any_type_is_an_identity_or_a_refusal(header: object) -> None:
    check(service(), sent(signed(claims(), header=header)))


_segment = st.text(alphabet=st.characters(max_codepoint=127), max_size=20)
_value = st.binary(max_size=60) | st.builds(
    lambda scheme, gap, rest: scheme + gap + rest,
    st.sampled_from([b"Token", b"bearer", b"ApiKey", b"Basic", b"Digest", b""]),
    st.sampled_from([b" ", b"", b"\t", b"  "]),
    st.binary(max_size=60) | st.lists(_segment, max_size=4).map(lambda segments: ".".join(segments).encode()),
)
_name = st.sampled_from([b"authorization", b"x-auth-token", b"token", b"host"]) | st.binary(max_size=10)


@patient
@given(headers=st.lists(st.tuples(_name, _value), max_size=4))
def test_headers_of_any_kind_are_an_identity_nobody_or_a_refusal(headers: list[tuple[bytes, bytes]]) -> None:
    check(service(), headers)


def check(auth: Authenticator, headers: Sequence[tuple[bytes, bytes]]) -> None:
    try:
        outcome = auth.authenticate(headers)
    except Refused as refused:
        assert refused.detail  # noqa: PT017 - a refusal is one of the two good endings
    else:
        assert outcome is None or isinstance(outcome, Identity)


# --- time, revocation, cache


def test_a_token_ends_when_it_expires_though_it_was_remembered() -> None:
    auth = service()
    with time_machine.travel(NOON, tick=False) as clock:
        token, _ = SIGNER.sign("ada", expires_in=HOUR)
        assert auth.authenticate(sent(token)) is not None
        clock.move_to(NOON + HOUR + timedelta(seconds=LEEWAY - 1))
        assert auth.authenticate(sent(token)) is not None
        clock.move_to(NOON + HOUR + timedelta(seconds=LEEWAY))
        assert refusal(auth, token) == "Invalid token."
        assert refusal(service(), token) == "Invalid token."


def test_a_token_is_not_valid_before_its_time_and_is_then() -> None:
    auth = service()
    with time_machine.travel(NOON, tick=False) as clock:
        token = signed(claims(nbf=int(NOON.timestamp()) + 60))
        assert refusal(auth, token) == "Invalid token."
        clock.shift(60)
        assert auth.authenticate(sent(token)) is not None


def test_a_registry_whose_clock_is_a_little_ahead_is_believed() -> None:
    with time_machine.travel(NOON, tick=False) as clock:
        token, _ = SIGNER.sign("ada", expires_in=HOUR)
        clock.shift(-LEEWAY)
        assert service().authenticate(sent(token)) is not None


def test_a_revocation_counts_at_the_next_request_and_can_be_taken_back() -> None:
    auth = service()
    token, token_id = SIGNER.sign("ada", expires_in=DAY)
    other, _ = SIGNER.sign("ada", expires_in=DAY)
    assert auth.authenticate(sent(token)) is not None
    auth.keyring.apply_revoked(token_id, b"{}")
    assert refusal(auth, token) == "Invalid token."
    assert auth.authenticate(sent(other)) is not None
    auth.keyring.apply_revoked(token_id, None)
    assert auth.authenticate(sent(token)) is not None


def test_a_token_revoked_before_its_first_use_is_refused() -> None:
    auth = service()
    token, token_id = SIGNER.sign("ada", expires_in=DAY)
    auth.keyring.apply_revoked(token_id, b"")
    assert refusal(auth, token) == "Invalid token."


def test_a_removed_key_takes_its_remembered_tokens_along_and_brings_them_back() -> None:
    auth = service()
    token, _ = SIGNER.sign("ada", expires_in=DAY)
    assert auth.authenticate(sent(token)) is not None
    auth.keyring.apply_key(SIGNER.kid, None)
    assert refusal(auth, token) == "Invalid token."
    auth.keyring.apply_key(SIGNER.kid, msgspec.json.encode(SIGNER.jwk))
    assert auth.authenticate(sent(token)) is not None


def test_a_replaced_key_takes_its_remembered_tokens_along() -> None:
    auth = service()
    token, _ = SIGNER.sign("ada", expires_in=DAY)
    assert auth.authenticate(sent(token)) is not None
    auth.keyring.apply_key(SIGNER.kid, msgspec.json.encode(Signer(OTHER).jwk | {"kid": SIGNER.kid}))
    assert refusal(auth, token) == "Invalid token."


def test_a_new_key_stands_beside_the_old_one() -> None:
    auth, newer = service(), Signer(OTHER)
    auth.keyring.apply_key(newer.kid, msgspec.json.encode(newer.jwk))
    for signer in (SIGNER, newer):
        assert auth.authenticate(sent(signer.sign("ada", expires_in=DAY)[0])) is not None


def test_a_remembered_token_is_not_verified_again_and_memory_is_bounded() -> None:
    keyring = read_keyring()
    keyring.apply_key(SIGNER.kid, msgspec.json.encode(SIGNER.jwk))
    auth = Authenticator(keyring, cached=2)
    first, second, third = (SIGNER.sign(name, expires_in=DAY)[0] for name in ("a", "b", "c"))
    with patch("sluice_core.auth.tokens.jwt.decode", wraps=jwt.decode) as verified:
        for token in (first, second, first, first, third, first):  # the third pushes out the second
            auth.authenticate(sent(token))
        assert verified.call_count == 3
        auth.authenticate(sent(second))
        assert verified.call_count == 4


def test_a_refused_token_is_not_remembered() -> None:
    newer = Signer(OTHER)
    auth, token = service(), newer.sign("ada", expires_in=DAY)[0]
    assert refusal(auth, token) == "Invalid token."
    auth.keyring.apply_key(newer.kid, msgspec.json.encode(newer.jwk))
    assert auth.authenticate(sent(token)) is not None


def test_a_giant_token_costs_no_work() -> None:
    untouched = AssertionError("the token was looked at")
    with patch("sluice_core.auth.tokens.jwt.get_unverified_header", side_effect=untouched):
        with patch("sluice_core.auth.authenticator.digest", side_effect=untouched):
            assert refusal(service(), "a" * (MAX_LENGTH + 1)) == "Invalid token."


# --- opaque tokens


def project(auth: Authenticator, token: str, record: TokenRecord) -> None:
    auth.keyring.apply_token(digest(token), msgspec.json.encode(record))


@pytest.mark.parametrize("token", ["abcdefghi", "0123456789abcdef0123456789abcdef01234567", "with.two.dots"])
def test_an_opaque_token_is_found_by_its_digest(token: str) -> None:
    auth = service()
    project(auth, token, TokenRecord(id="t1", subject="daq", roles=("dqm",), scopes=("x:y",)))
    assert auth.authenticate([(b"token", token.encode())]) == Identity("daq", ROLES["dqm"] | {"x:y"}, "t1")
    assert refusal(auth, token + "x") == "Invalid token."
    assert refusal(auth, digest(token)) == "Invalid token."


def test_an_opaque_token_ends_when_it_expires() -> None:
    auth = service()
    project(auth, "abc", TokenRecord(id="t1", subject="ada", expires=NOON.timestamp()))
    with time_machine.travel(NOON - timedelta(seconds=1), tick=False) as clock:
        assert auth.authenticate(sent("abc")) is not None
        clock.shift(1)
        assert refusal(auth, "abc") == "Invalid token."


def test_a_disabled_user_is_told_so() -> None:
    auth = service()
    project(auth, "abc", TokenRecord(id="t1", subject="ada", disabled=True))
    assert refusal(auth, "abc") == "User inactive or deleted."


def test_an_opaque_token_is_revoked_by_its_id_or_by_deletion() -> None:
    auth = service()
    project(auth, "abc", TokenRecord(id="t1", subject="ada"))
    auth.keyring.apply_revoked("t1", b"{}")
    assert refusal(auth, "abc") == "Invalid token."
    auth.keyring.apply_revoked("t1", None)
    assert auth.authenticate(sent("abc")) is not None
    auth.keyring.apply_token(digest("abc"), None)
    assert refusal(auth, "abc") == "Invalid token."
