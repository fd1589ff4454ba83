"""Refusals of the run service's new endpoints."""

from sluice_core.errors import Problem

__all__ = ["NoCursor", "RunStateUnknown", "RunUnknown"]


class RunUnknown(Problem):
    """There is no run of this key."""

    status, code, title = 404, "run_unknown", "No such run"


class RunStateUnknown(Problem):
    """There is no state of a run of this number."""

    status, code, title = 404, "run_state_unknown", "No state of such a run"


class NoCursor(Problem):
    """A list cannot go on there."""

    status, code, title = 400, "no_cursor", "Follow the `Link` header as it was given"
