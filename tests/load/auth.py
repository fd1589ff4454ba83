"""What it costs to know who sends a request.

In one process, without HTTP: how long `Authenticator.identify` takes for each kind of credential that was seen before,
and for a token that was not, whose signature is checked. Then what a token adds to the processor time of a real
request: the same agent is read with one and without, in turns. That is a small difference of large figures, which
everything else on the machine moves; it has no target.
"""

import argparse
import asyncio
import statistics
import time
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import msgspec

from sluice_core.auth import Authenticator, Identity, Signer, TokenRecord, digest, generate_key, user_key
from sluice_core.auth.passwords import AskedPasswords
from sluice_core.testing.tokens import read_keyring
from tests.integration.platforms import Client, Serve
from tests.load import _wrk
from tests.load._platform import Platform, started
from tests.load._programs import cpu
from tests.load._report import AtMost, Report
from tests.load._wrk import Requests

MICRO = 1e6
LIFE = timedelta(days=1)
# What a keyring of a busy site holds.
OPAQUE, REVOKED, INACTIVE = 2000, 5000, 200
# Tokens in turns: as many as programs of a site.
TOKENS = 500
NUMBER = 2000
ROUNDS = 9

# Of a request, in microseconds (issue 4).
COST = AtMost(60)
TARGETS = {f"{name}_us": COST for name in ("token", "opaque", "session", "session_write", "password")}

Headers = list[tuple[bytes, bytes]]
# Sent by every client, around what is looked for.
USUAL: Headers = [
    (b"host", b"swf-testbed.example.org:8002"),
    (b"user-agent", b"python-requests/2.32.4"),
    (b"accept-encoding", b"gzip, deflate"),
    (b"accept", b"*/*"),
    (b"connection", b"keep-alive"),
    (b"content-type", b"application/json"),
    (b"content-length", b"312"),
]


class Site:
    """A service that knows many tokens, and credentials of all kinds."""

    def __init__(self) -> None:
        self._signer = Signer(generate_key())
        keyring = read_keyring()
        keyring.apply_key(self._signer.kid, msgspec.json.encode(self._signer.jwk))
        for number in range(OPAQUE):
            record = TokenRecord(id=f"id-{number}", subject=f"user-{number}", roles=("agent",))
            keyring.apply_token(digest(f"opaque-{number}"), msgspec.json.encode(record))
        for number in range(REVOKED):
            keyring.apply_revoked(f"revoked-{number}", b"")
        for number in range(INACTIVE):
            keyring.apply_revoked(user_key(f"former-{number}"), b"")
        self._keyring = keyring

    def authenticator(self) -> Authenticator:
        """Return one that has seen nothing yet."""
        made = Authenticator(self._keyring)
        made.passwords = AskedPasswords(self._ask, self._keyring)
        return made

    def tokens(self, count: int) -> list[Headers]:
        """Return requests with signed tokens, each another one."""
        signed = (self._signer.sign(f"user-{n}", expires_in=LIFE, roles=["agent"])[0] for n in range(count))
        return [[*USUAL, (b"authorization", f"Token {token}".encode())] for token in signed]

    def opaque(self, count: int) -> list[Headers]:
        """Return requests with imported tokens."""
        return [[*USUAL, (b"authorization", f"Token opaque-{n}".encode())] for n in range(count)]

    def sessions(self, count: int) -> list[Headers]:
        """Return requests of browsers, which prove themselves."""
        return [[*USUAL, *self._browser(number)] for number in range(count)]

    def passwords(self, count: int) -> list[Headers]:
        """Return requests with passwords."""
        pairs = (b64encode(f"user-{n}:correct horse".encode()) for n in range(count))
        return [[*USUAL, (b"authorization", b"Basic " + pair)] for pair in pairs]

    def _browser(self, number: int) -> Headers:
        csrf = f"{number:032x}"
        session = self._signer.sign_session(
            f"user-{number}", session_id=f"s-{number}", expires_in=LIFE, roles=["agent"], csrf=digest(csrf)
        )
        return [(b"cookie", f"sessionid={session}; csrftoken={csrf}".encode()), (b"x-csrftoken", csrf.encode())]

    async def _ask(self, username: str, _password: str, _source: str) -> Identity:
        return Identity(username, frozenset(), None, by="password")


async def _identify(auth: Authenticator, requests: Sequence[Mapping[str, Any]], number: int) -> float:
    """Return the seconds that each of so many requests takes, of processor time."""
    count = len(requests)
    began = time.process_time()
    for at in range(number):
        await auth.identify(requests[at % count])
    return (time.process_time() - began) / number


async def in_process(report: Report) -> None:
    """Measure without HTTP."""
    site = Site()
    kinds: Mapping[str, tuple[str, Callable[[int], list[Headers]]]] = {
        "nobody": ("GET", lambda _: [USUAL]),
        "token": ("POST", site.tokens),
        "opaque": ("POST", site.opaque),
        "session": ("GET", site.sessions),
        "session_write": ("POST", site.sessions),
        "password": ("POST", site.passwords),
    }
    for name, (method, make) in kinds.items():
        auth = site.authenticator()
        requests = [
            {"type": "http", "method": method, "headers": headers, "client": ("10.0.0.1", 1)}
            for headers in make(TOKENS)
        ]
        await _identify(auth, requests, len(requests))
        costs = [await _identify(auth, requests, NUMBER) for _ in range(ROUNDS)]
        report.measured[f"{name}_us"] = statistics.median(costs) * MICRO
    fresh = [{"type": "http", "method": "GET", "headers": headers} for headers in site.tokens(NUMBER)]
    costs = [await _identify(site.authenticator(), fresh, NUMBER) for _ in range(3)]
    report.measured["token_first_time_us"] = statistics.median(costs) * MICRO


def over_http(report: Report, platform: Platform, *, rounds: int, seconds: int) -> None:
    """Measure what a signed token adds to the processor time of reading one agent, which needs none."""
    url = platform.database("sluice_registry", "sluice_registry")
    with platform.service("registry", url, admin_token=platform.token) as registry:
        admin = Client(registry.http, platform.token)
        admin.post("/api/systemagents/heartbeat/", {"instance_name": "daq-1"}).raise_for_status()
        token = admin.post("/api/auth/tokens/", {"name": "bench", "roles": ["agent"]}).json()["token"]
        read = Requests("GET", "/api/systemagents/1/")
        known = replace(read, headers={"Authorization": f"Bearer {token}"})
        extra = []
        for _ in range(rounds):
            nobody, somebody = (_cost(registry, what, seconds) for what in (read, known))
            extra.append(somebody - nobody)
            print(f"  {somebody * MICRO:.0f} µs with a token, {nobody * MICRO:.0f} µs without", flush=True)
    report.measured["token_of_request_us"] = statistics.median(extra) * MICRO


def _cost(registry: Serve, what: Requests, seconds: int) -> float:
    """Return the processor time of each request, in seconds."""
    used = cpu(registry.pid)
    load = _wrk.send(registry.http, what, connections=16, seconds=seconds)
    return (cpu(registry.pid) - used) / load.requests


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="how often requests are measured (default: 5)")
    parser.add_argument("--seconds", type=int, default=3, help="of each load (default: 3)")
    given = parser.parse_args()
    report = Report("auth", TARGETS)
    asyncio.run(in_process(report))
    if _wrk.available():
        with started() as platform:
            over_http(report, platform, rounds=given.rounds, seconds=given.seconds)
    else:
        report.doubts.append(_wrk.MISSING)
    report.show()


if __name__ == "__main__":
    main()
