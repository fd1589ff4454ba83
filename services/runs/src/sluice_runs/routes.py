"""Paths that this service answers."""

ROUTES = (
    "/api/runs",
    "/api/stf-files",
    "/api/fastmon-files",
    "/api/tf-slices",
    "/api/run-states",
    "/api/system-state-events",
    "/api/workflows",
    "/api/workflow-stages",
    "/api/workflow-definitions",
    "/api/workflow-executions",
    "/api/message-dispatches",
)
