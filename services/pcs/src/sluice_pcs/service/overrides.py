"""What a configuration says, and what a task says otherwise (contract 10.4)."""

from collections.abc import Mapping
from datetime import UTC
from typing import Any

from sluice_core.rest import Boolean, Choice, Field, FieldError, Float, Integer, Resource, Text

__all__ = ["complaints", "data_complaints", "effective"]

Row = dict[str, Any]
NOT_OVERRIDDEN = ("id", "name", "created_by", "created_at", "updated_at")


def _texts(*names: str) -> list[Field]:
    return [Text(name, blank=True, max_length=2000) for name in names]


# contract 10.4: open parameters that commands are made of; others are kept as they are.
KNOWN: Mapping[str, Field] = {
    field.name: field
    for field in (
        Choice("workflow_mode", ("external_evgen", "internal_evgen")),
        Choice("submission_path", ("condor", "panda")),
        *(
            Integer(name, minimum=0)
            for name in (
                "n_jobs",
                "events_per_job",
                "events_per_file",
                "files_per_job",
                "corecount",
                "ram_count",
                "disk_count",
                "output_offset",
                "task_priority",
            )
        ),
        Float("walltime_hours"),
        *(Boolean(name) for name in ("no_build", "skip_scout", "disable_auto_retry", "official")),
        *_texts(
            "transformation",
            "processing_type",
            "prod_source_label",
            "vo",
            "exec_command",
            "outputs",
            "log_rse",
            "scope",
            "cloud",
            "task_type",
        ),
    )
}
LONGEST_WALLTIME = 24 * 366


def data_complaints(data: Any) -> list[str]:
    """Say what is wrong with the open parameters of a submission."""
    found = []
    for name, value in (data or {}).items():
        if value is None or name not in KNOWN:
            continue
        try:
            parsed = KNOWN[name].convert(value, UTC)
        except FieldError as exc:
            found.append(f"data.{name}: {' '.join(exc.args)}")
        else:
            if name == "walltime_hours" and not 0 <= parsed <= LONGEST_WALLTIME:
                found.append(f"data.{name}: Ensure this value is between 0 and {LONGEST_WALLTIME}.")
    return found


def complaints(configs: Resource, overrides: Mapping[str, Any]) -> list[str]:
    """Say what is wrong with what a task says otherwise than its configuration.

    Parameters
    ----------
    configs
        The resource of configurations.
    """
    found = []
    for name, value in overrides.items():
        if name in NOT_OVERRIDDEN or name not in configs.by_name:
            continue
        try:
            configs.field(name).parse(value, UTC)
        except FieldError as exc:
            found.append(f"{name}: {' '.join(exc.args)}")
            continue
        if name == "data":
            found += data_complaints(value)
    return found


def effective(configs: Resource, config: Row, overrides: Mapping[str, Any] | None) -> Row:
    """Return a configuration as it holds for a task."""
    said = {
        name: configs.field(name).parse(value, UTC)
        for name, value in (overrides or {}).items()
        if name in configs.by_name and name not in NOT_OVERRIDDEN
    }
    data = {**(config["data"] or {}), **(said.get("data") or {})}
    known = {
        name: KNOWN[name].convert(value, UTC) if name in KNOWN and value is not None else value
        for name, value in data.items()
    }
    return {**config, **said, "data": known}
