"""What clients post, as swf-clients.md 5 has it."""

from typing import Any

from starlette.testclient import TestClient

__all__ = ["create", "definition", "execution", "run_state", "slice_of", "stage", "workflow"]

AT = "2026-05-05T10:00:00"


def create(client: TestClient, name: str, body: dict[str, Any]) -> dict[str, Any]:
    """Create a row of a resource; return it."""
    reply = client.post(f"/api/{name}/", json=body)
    assert reply.status_code == 201, reply.text
    row: dict[str, Any] = reply.json()
    return row


def run_state(number: int | str, **given: Any) -> dict[str, Any]:
    counters = dict.fromkeys(
        (
            "active_worker_count",
            "stf_samples_received",
            "slices_created",
            "slices_queued",
            "slices_processing",
            "slices_completed",
            "slices_failed",
        ),
        0,
    )
    return {
        "run_number": number,
        "phase": "initializing",
        "state": "imminent",
        "substate": "preparing",
        "target_worker_count": 30,
        **counters,
        "state_changed_at": AT,
        "metadata": {"execution_id": "wd-ada-0001", "stf_sampling_rate": 1.0, "slices_per_sample": 15},
        **given,
    }


def definition(**given: Any) -> dict[str, Any]:
    return {
        "workflow_name": "wd",
        "version": "1.0",
        "workflow_type": "simulation",
        "definition": "print()",
        "parameter_values": {"fast_processing": {"stf_count": 2}},
        "created_by": "ada",
        "created_at": AT,
        **given,
    }


def execution(definition_id: int, **given: Any) -> dict[str, Any]:
    return {
        "execution_id": "wd-ada-0001",
        "workflow_definition": definition_id,
        "namespace": "n1",
        "status": "running",
        "executed_by": "ada",
        "start_time": AT,
        "parameter_values": {"testbed": {"namespace": "n1"}},
        **given,
    }


def slice_of(number: int | str, slice_id: int, tf: str = "swf.101.000001_tf_001", **given: Any) -> dict[str, Any]:
    return {
        "slice_id": slice_id,
        "tf_first": 2 * slice_id,
        "tf_last": 2 * slice_id + 1,
        "tf_count": 2,
        "tf_filename": f"{tf}_slice_{slice_id:03d}.tf",
        "stf_filename": "swf.101.000001.stf",
        "run_number": number,
        "status": "queued",
        "retries": 0,
        "metadata": {"execution_id": "wd-ada-0001", "created_by": "fast_processing-agent-ada-4"},
        **given,
    }


def workflow(**given: Any) -> dict[str, Any]:
    return {
        "filename": "swf.101.000001.stf",
        "namespace": "n1",
        "daq_state": "run",
        "daq_substate": "physics",
        "generated_time": AT,
        "stf_start_time": AT,
        "stf_end_time": AT,
        **given,
    }


def stage(workflow_id: str, **given: Any) -> dict[str, Any]:
    return {"agent_name": "a", "agent_type": "data", "workflow": workflow_id, **given}
