"""What a workflow message says about a run (swf-clients.md 8), as it lies in the stream ``MESSAGES``."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, tzinfo
from typing import Any, NamedTuple
from uuid import UUID

import msgspec

from sluice_core.bus import Poison
from sluice_core.rest import DateTime, FieldError, Integer

__all__ = ["LIFECYCLE", "Result", "Said", "Step", "read"]

# Headers of the stream service's messages.
ID = "Sluice-Id"
AT = "Sluice-At"

MOMENT = DateTime("timestamp")
NUMBER = Integer("run_id")
_INTEGER = re.compile(r"-?[0-9]{1,10}")
LONGEST_STATE = 20
LONGEST_NAME = 255
DONE = ("done", "completed", "finished", "success")

LIFECYCLE: Mapping[str, tuple[int, str, str, str | None]] = {
    "run_imminent": (1, "initializing", "beam", "not_ready"),
    "start_run": (2, "physics", "run", "physics"),
    "pause_run": (3, "physics", "run", "standby"),
    "resume_run": (4, "physics", "run", "physics"),
    "end_run": (5, "completed", "ended", None),
}
"""Messages that move a run: place among those of one instant, phase, and state and substate where they name none."""


class Step(NamedTuple):
    """Where a lifecycle message moves its run."""

    rank: int
    phase: str
    state: str
    substate: str | None


class Result(NamedTuple):
    """What became of a slice."""

    tf_filename: str
    slice_id: int
    status: str
    worker: Mapping[str, Any]


class Said(NamedTuple):
    """A message about a run.

    Attributes
    ----------
    at
        When it was sent, by its own account, but never later than it came to us.
    step, result
        What it changes; None where it is not of that kind.
    """

    message_id: UUID
    at: datetime
    message_type: str
    run_number: int
    sender: str | None
    execution_id: str | None
    namespace: str | None
    step: Step | None
    result: Result | None


def read(headers: Mapping[str, str], data: bytes, zone: tzinfo) -> Said | None:
    """Read a message of the stream.

    Parameters
    ----------
    zone
        Where times without an offset are.

    Returns
    -------
    Said or None
        None when it is about no run.

    Raises
    ------
    Poison
        It says it is about a run, and cannot be understood.
    """
    try:
        message_id = UUID(headers[ID])
        came = datetime.fromisoformat(headers[AT]).astimezone(UTC)
        content = msgspec.json.decode(data)
    except KeyError as exc:
        raise Poison(f"no header {exc.args[0]}") from None
    except (ValueError, RecursionError):
        raise Poison("no message of the stream service") from None
    if not isinstance(content, dict):
        raise Poison("a message is a JSON object")
    number = _number(content.get("run_id"))
    if number is None:
        return None
    kind = str(content.get("msg_type"))
    inner = content.get("content")
    inner = inner if isinstance(inner, dict) else {}
    stated = inner.get("processed_at") if kind == "slice_result" else None
    return Said(
        message_id,
        _moment(stated or content.get("timestamp"), came, zone),
        kind[:50],
        number,
        _text(content, "sender"),
        _text(content, "execution_id"),
        _text(content, "namespace"),
        _step(kind, content) if kind in LIFECYCLE else None,
        _result(inner) if kind == "slice_result" else None,
    )


def _number(value: Any) -> int | None:
    """Return an integer of 32 bits that looks like one, or None."""
    if isinstance(value, bool) or not _INTEGER.fullmatch(str(value)):
        return None
    low, high = NUMBER.range
    return int(value) if low <= int(value) <= high else None


def _moment(stated: Any, came: datetime, zone: tzinfo) -> datetime:
    try:
        # A clock that runs ahead must not decide for ever.
        return min(MOMENT.convert(stated, zone), came)
    except FieldError:
        return came


def _text(content: Mapping[str, Any], name: str) -> str | None:
    value = content.get(name)
    return str(value)[:100] if isinstance(value, str | int) and value != "" else None


def _step(kind: str, content: Mapping[str, Any]) -> Step:
    rank, phase, state, substate = LIFECYCLE[kind]
    if kind != "end_run":
        state, substate = content.get("state", state), content.get("substate", substate)
    if not isinstance(state, str) or len(state) > LONGEST_STATE or not state:
        raise Poison(f"{kind}: state is no text of at most {LONGEST_STATE} characters")
    if substate is not None and (not isinstance(substate, str) or len(substate) > LONGEST_STATE):
        raise Poison(f"{kind}: substate is no text of at most {LONGEST_STATE} characters")
    return Step(rank, phase, state, substate)


def _result(inner: Mapping[str, Any]) -> Result:
    found = inner.get("result")
    if isinstance(found, dict) and isinstance(found.get("result"), dict):
        found = found["result"]
    if not isinstance(found, dict):
        raise Poison("slice_result: no result")
    name, slice_id = found.get("tf_filename"), _number(found.get("slice_id"))
    if not isinstance(name, str) or not 0 < len(name) <= LONGEST_NAME or slice_id is None:
        raise Poison("slice_result: no tf_filename or no slice_id")
    status = "completed" if inner.get("state", found.get("state")) in DONE else "failed"
    names = ("panda_task_id", "panda_id", "harvester_id", "processing_start_at", "result")
    worker = {"worker_hostname": inner.get("hostname"), **{each: inner.get(each) for each in names}}
    return Result(name, slice_id, status, {key: value for key, value in worker.items() if value is not None})
