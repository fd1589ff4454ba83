"""Load from wrk, which costs the machine much less than a client in Python."""

import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

__all__ = ["MISSING", "Load", "Requests", "available", "send"]

MISSING = "wrk is not installed (Debian package wrk), so nothing that needs load was measured."
# Of a processor: a client this busy may be what limits the rate.
SATURATED = 0.9

# wrk asks `request` before each request, and calls `done` once at the end.
SCRIPT = r"""
local method, path, body, headers = %(method)s, %(path)s, %(body)s, {%(headers)s}
local first, rotate, sent, made = %(first)d, %(rotate)d, 0, {}
local fresh = (path .. (body or "")):find("<i>", 1, true) ~= nil

local function make(at)
  local n, i = tostring(at %% rotate + 1), tostring(first + at)
  local function fill(text) return text and (text:gsub("<n>", n):gsub("<i>", i)) end
  return wrk.format(method, fill(path), headers, fill(body))
end

function init(_)
  for at = 0, fresh and -1 or rotate - 1 do made[at] = make(at) end
end

function request()
  local at = sent
  sent = sent + 1
  return made[at %% rotate] or make(at)
end

function done(summary, latency, _)
  local e = summary.errors
  io.write(string.format(
    '\n{"requests": %%d, "microseconds": %%d, "failed": %%d, "p50": %%d, "p99": %%d}\n',
    summary.requests, summary.duration, e.connect + e.read + e.write + e.status + e.timeout,
    latency:percentile(50), latency:percentile(99)))
end
"""


@dataclass(frozen=True)
class Requests:
    """What is sent.

    Attributes
    ----------
    path, body
        ``<n>`` in them becomes 1 to `rotate`, again and again; ``<i>`` a number that never comes twice.
    first
        The first ``<i>``.
    """

    method: str
    path: str
    body: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    rotate: int = 1
    first: int = 1


class Load(NamedTuple):
    """How it went.

    Attributes
    ----------
    requests
        Answered.
    rate
        Answers a second.
    p50, p99
        Seconds until the answer.
    failed
        No answer, or another status than 2xx and 3xx.
    cpu
        Share of a processor that wrk used.
    """

    requests: int
    rate: float
    p50: float
    p99: float
    failed: int
    cpu: float

    @property
    def saturated(self) -> bool:
        """Whether wrk itself may have limited the rate."""
        return self.cpu > SATURATED


def available() -> bool:
    """Whether wrk is installed."""
    return shutil.which("wrk") is not None


def send(url: str, what: Requests, *, connections: int, seconds: float) -> Load:
    """Send as much as is answered, for some seconds.

    Raises
    ------
    RuntimeError
        wrk failed, or a request did: its figures would mean nothing.
    """
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder, "script.lua")
        script.write_text(_script(what))
        command = [
            "wrk",
            "-t1",
            f"-c{connections}",
            f"-d{max(1, round(seconds))}s",
            f"-s{script}",
            "--timeout=10s",
            url,
        ]
        began = time.monotonic()
        used = os.times()
        done = subprocess.run([*command, url], capture_output=True, text=True)
        wall, after = time.monotonic() - began, os.times()
    if done.returncode != 0:
        raise RuntimeError(f"wrk failed: {done.stdout}{done.stderr}")
    found = json.loads(done.stdout.strip().splitlines()[-1])
    if found["failed"] or not found["requests"]:
        raise RuntimeError(f"{what.method} {what.path}: {done.stdout}")
    cpu = (after.children_user + after.children_system - used.children_user - used.children_system) / wall
    seconds = found["microseconds"] / 1e6
    rate = found["requests"] / seconds
    return Load(found["requests"], rate, found["p50"] / 1e6, found["p99"] / 1e6, found["failed"], cpu)


def _script(what: Requests) -> str:
    headers = ", ".join(f"[ {_lua(name)} ] = {_lua(value)}" for name, value in what.headers.items())
    values = {
        "method": _lua(what.method),
        "path": _lua(what.path),
        "body": "nil" if what.body is None else _lua(what.body),
        "headers": headers,
        "first": what.first,
        "rotate": what.rotate,
    }
    return SCRIPT % values


def _lua(text: str) -> str:
    """Write a text as Lua reads it: long brackets take everything as it stands."""
    return f"[==[{text}]==]"
