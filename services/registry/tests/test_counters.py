"""Numbers that rise by one and are never given twice (contract 4.2)."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from sluice_core.database import Database
from sluice_registry.service.counters import AGENT_ID, RUN_NUMBER, WORKFLOW_EXECUTION_ID, Counter, Counters
from sluice_registry.store.counters import CounterStore

ALL = pytest.mark.parametrize(
    ("counter", "first"), [(RUN_NUMBER, 100010), (AGENT_ID, 1), (WORKFLOW_EXECUTION_ID, 1)], ids=["run", "agent", "wf"]
)


@pytest.fixture
def databases_of_two(fresh_database: Callable[[str], str]) -> Iterator[list[Database]]:
    """The same database as two replicas hold it."""
    url = fresh_database("sluice_registry")
    with ExitStack() as stack:
        made = [Database(url, pool_size=4) for _ in range(2)]
        for each in made:
            stack.callback(each.close)
        yield made


@ALL
def test_numbers_begin_as_the_contract_says_and_rise_by_one(
    databases_of_two: list[Database], counter: Counter, first: int
) -> None:
    counters = Counters(databases_of_two[0])
    assert [counters.take(counter) for _ in range(3)] == [first, first + 1, first + 2]


@ALL
def test_two_replicas_never_give_the_same_number(
    databases_of_two: list[Database], counter: Counter, first: int
) -> None:
    replicas = [Counters(database) for database in databases_of_two]
    with ThreadPoolExecutor(8) as threads:
        taken = list(threads.map(lambda turn: replicas[turn % 2].take(counter), range(100)))
    assert sorted(taken) == list(range(first, first + 100))


def test_a_number_that_was_not_committed_is_given_again(databases_of_two: list[Database]) -> None:
    one, two = databases_of_two
    with one.engine.connect() as connection:
        lost = CounterStore(connection).take("agent-id", 1)
        connection.rollback()
    assert Counters(two).take(AGENT_ID) == lost


def test_counters_do_not_wait_for_each_other(databases_of_two: list[Database]) -> None:
    one, two = databases_of_two
    with one.engine.connect() as connection:
        CounterStore(connection).take("agent-id", 1)
        with ThreadPoolExecutor(1) as thread:
            assert thread.submit(Counters(two).take, RUN_NUMBER).result(timeout=5) == 100010
