"""Odd input by the hundred: Schemathesis over a service's OpenAPI document."""

import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import HypothesisDeprecationWarning, Unsatisfiable
from hypothesis.strategies import SearchStrategy
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.config import SchemathesisConfig
from schemathesis.core.result import Err
from schemathesis.schemas import APIOperation

__all__ = ["assert_no_server_error"]

Operation = APIOperation[Any, Any, Any, Any]

# The same requests in every run; of a failure, only its simplest form. A slow machine is no failure.
BOUNDED = settings(
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.generate, Phase.shrink),
)


def assert_no_server_error(
    url: str,
    document: Mapping[str, Any],
    *,
    headers: Mapping[str, str],
    rows: Mapping[str, Any],
    examples: int = 12,
) -> None:
    """Send good and bad input to every operation; none may answer 5xx.

    Nothing else is checked: a 400 for input that the schema allows is often right, since a schema cannot say all.

    Parameters
    ----------
    url
        Where the service answers; see `sluice_core.testing.serving`.
    document
        Its OpenAPI document.
    headers
        Sent with every request: the credential of somebody who may do everything, or nothing behind it is reached.
    rows
        Values of path parameters that lead to a row. Without them all of an operation on one row would be 404s.
    examples
        Requests of each kind to each operation.

    Raises
    ------
    schemathesis.core.failures.FailureGroup
        With the request, as a command line of curl.
    """
    schema = schemathesis.openapi.from_dict(dict(document), config=SchemathesisConfig())
    with warnings.catch_warnings():
        # The service, in another thread, draws random pauses; Hypothesis takes them for ours.
        warnings.filterwarnings("ignore", "Do not use the `random` module", HypothesisDeprecationWarning)
        for found in schema.get_all_operations():
            if isinstance(found, Err):
                raise found.err()
            operation: Operation = found.ok()
            for mode, path in _kinds(operation, rows):
                try:
                    _send(operation.as_strategy(mode, path_parameters=path), url, dict(headers), examples)
                except Unsatisfiable:
                    if mode.is_positive:
                        raise
                    # Any text is a good name: such an operation has no bad input.


def _send(cases: SearchStrategy[Case[Operation]], url: str, headers: dict[str, str], examples: int) -> None:
    @settings(BOUNDED, max_examples=examples)
    @given(cases)
    def send(case: Case[Operation]) -> None:
        response = case.call(base_url=url, headers=headers)
        case.validate_response(response, checks=[not_a_server_error])

    send()


def _kinds(operation: Operation, rows: Mapping[str, Any]) -> Iterator[tuple[GenerationMode, dict[str, Any]]]:
    """Yield what to send: good input for a row that exists, bad input for it, bad input for any."""
    path = {name: rows[name] for name in (each.name for each in operation.path_parameters) if name in rows}
    yield GenerationMode.POSITIVE, path
    if path and (operation.query or operation.body):
        yield GenerationMode.NEGATIVE, path
    if any(operation.iter_parameters()) or operation.body:
        yield GenerationMode.NEGATIVE, {}
