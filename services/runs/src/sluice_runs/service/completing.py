"""What follows from what was given, just before a row is written: the ``prepare`` of resources."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection

from sluice_core.rest import Attempt, Change
from sluice_runs.store.files import parents
from sluice_runs.store.workflows import generated, regenerate

__all__ = [
    "SETTLED",
    "ended_execution",
    "regenerated_workflow",
    "settle",
    "settled_file",
    "slice_names",
    "sliced_file",
    "staged_workflow",
]

Row = Mapping[str, Any]
Errors = dict[str, list[str]]

SETTLED = ("processed", "failed", "done")
"""Statuses of a file that nothing follows."""

REQUIRED = "This field is required."
LONGEST = 255
_SLICE = re.compile(r"(.+)_slice_\d+(\.[^.]*)?", re.DOTALL)


def settled_file(_: Connection, attempt: Attempt) -> None:
    """Note when an STF file was done with."""
    settle(attempt.before, attempt.values)


def settle(before: Row | None, values: dict[str, Any]) -> None:
    """Fill in when an STF file was done with, where its status says that it is, or is not any more."""
    status = values.get("status")
    if status is None or (before is not None and (before["status"] in SETTLED) == (status in SETTLED)):
        return
    values["settled_at"] = datetime.now(UTC) if status in SETTLED else None


def ended_execution(_: Connection, attempt: Attempt) -> None:
    """Keep the end of an execution: runners say null for it when they stop one that has ended (swf-clients.md 14)."""
    before, values = attempt.before, attempt.values
    if before is not None and before["end_time"] is not None and values.get("end_time", ...) is None:
        del values["end_time"]


def staged_workflow(connection: Connection, attempt: Attempt) -> None:
    """Take over from its workflow what a stage is ordered by."""
    if "workflow_id" in attempt.values:
        # Of one that does not exist, there is none; then the constraints refuse the row.
        attempt.values["generated_time"] = generated(connection, attempt.values["workflow_id"])


def regenerated_workflow(connection: Connection, change: Change) -> None:
    """Let the stages of a workflow follow it; an ``on_change`` of workflows."""
    before, after = change.before, change.after
    if before and after and before["generated_time"] != after["generated_time"]:
        regenerate(connection, after["workflow_id"], after["generated_time"])


def sliced_file(connection: Connection, attempt: Attempt) -> None:
    """Bring the two ways to say whose slice it is together (decision 8)."""
    if attempt.errors:
        return
    before, values = attempt.before, attempt.values
    if before is not None:
        values["unanswered"] = False
    given = values.get("fastmon_file")
    known = parents(connection, [given]) if given is not None else {}
    attempt.errors.update(slice_names(before, values, known))


def slice_names(before: Row | None, values: dict[str, Any], known: Mapping[str, str]) -> Errors:
    """Fill in the flat names of a slice from its TF file, or the other way round.

    Parameters
    ----------
    before
        The slice as it was; None for a new one.
    values
        Columns about to be written.
    known
        TF files that exist, among them the one that was given, and the STF file of each.

    Returns
    -------
    dict
        What is wrong.
    """
    parent = values.get("fastmon_file")
    if parent is not None:
        if parent not in known:
            return {"fastmon_file": [f"Object with tf_filename={parent} does not exist."]}
        slice_id = values["slice_id"] if "slice_id" in values else (before or {})["slice_id"]
        if values.get("tf_filename") is None:
            stem, dot, suffix = parent.rpartition(".")
            values["tf_filename"] = f"{stem if dot else parent}_slice_{slice_id:03d}{dot and '.'}{dot and suffix}"
            if len(values["tf_filename"]) > LONGEST:
                return {"fastmon_file": [f"The name of its slice would have more than {LONGEST} characters."]}
        if values.get("stf_filename") is None:
            values["stf_filename"] = known[parent]
        return {}
    if before is None:
        if missing := [name for name in ("tf_filename", "stf_filename") if values[name] is None]:
            return {name: [REQUIRED] for name in missing}
    elif "tf_filename" not in values:
        return {}
    found = _SLICE.fullmatch(values["tf_filename"])
    values["fastmon_file"] = found[1] + (found[2] or "") if found else values["tf_filename"]
    return {}
