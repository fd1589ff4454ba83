"""Counters under load ("Must show" 4)."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.integration.platforms import Client, Up

CLIENTS = 200


@pytest.mark.parametrize(
    ("path", "key"),
    [
        ("/api/state/next-run-number/", "run_number"),
        ("/api/state/next-agent-id/", "agent_id"),
        ("/api/state/next-workflow-execution-id/", "sequence"),
    ],
)
def test_200_parallel_clients_get_distinct_and_consecutive_numbers(
    path: str, key: str, platform: Up, client: Client
) -> None:
    before = client.post(path).json()[key]
    together = threading.Barrier(CLIENTS)

    def take(_: int) -> tuple[int, int]:
        mine = platform.client()
        mine.get("/api/")  # all are connected before the first one counts
        together.wait(30)
        answer = mine.post(path)
        mine.close()
        return answer.status_code, answer.json()[key]

    with ThreadPoolExecutor(CLIENTS) as threads:
        taken = list(threads.map(take, range(CLIENTS)))
    assert {status for status, _ in taken} == {200}
    assert sorted(number for _, number in taken) == list(range(before + 1, before + CLIENTS + 1))
