"""No input makes the run service fail."""

import pytest
import requests

from services.runs.tests.bodies import AT, definition, execution, run_state, slice_of, stage, workflow
from sluice_core.testing.apps import AppMaker
from sluice_core.testing.fuzz import assert_no_server_error
from sluice_core.testing.serving import serving
from sluice_core.testing.tokens import Tokens


@pytest.mark.timeout(300)
def test_no_input_is_answered_by_a_server_error(make_app: AppMaker, tokens: Tokens) -> None:
    app, headers = make_app(), tokens.header("admin")
    with serving(app) as served:
        rows = {}

        def create(name: str, key: str, **body: object) -> object:
            row = requests.post(f"{served.url}/api/{name}/", json=body, headers=headers, timeout=10).json()
            rows[key] = row[key]
            return row[key]

        run = create("runs", "run_id", run_number=101, start_time=AT)
        stf = create("stf-files", "file_id", run=run, stf_filename="a.stf")
        create("fastmon-files", "tf_file_id", stf_file="a.stf", tf_filename="a.tf")
        create("workflows", "workflow_id", **workflow())
        create("workflow-stages", "stage_id", **stage(str(rows["workflow_id"])))
        wd = create("workflow-definitions", "id", **definition())
        assert isinstance(wd, int)
        create("workflow-executions", "execution_id", **execution(wd))
        # The first definition and the first slice of an empty database.
        assert create("tf-slices", "id", **slice_of(101, 0)) == wd
        create("run-states", "run_number", **run_state(101))
        event = {"timestamp": AT, "run_number": 101, "event_type": "x", "state": "x", "event_data": 0}
        create("system-state-events", "event_id", **event)
        create("message-dispatches", "dispatch_id", stf_file=stf)
        assert_no_server_error(served.url, app.openapi(), headers=headers, rows=rows, examples=3)
