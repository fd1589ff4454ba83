"""Refusals of the stream service."""

from sluice_core.errors import Problem

__all__ = ["LetterUnknown", "NoBroker", "NotReplayable"]


class LetterUnknown(Problem):
    """No dead letter has this id."""

    status, code, title = 404, "dead_letter_unknown", "No such dead letter"


class NotReplayable(Problem):
    """A dead letter cannot be sent again as it is."""

    status, code, title = 409, "not_replayable", "It cannot be sent again"


class NoBroker(Problem):
    """Only a broker could deliver this, and none is configured."""

    status, code, title = 409, "no_broker", "There is no broker"
