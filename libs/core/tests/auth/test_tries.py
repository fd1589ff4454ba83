"""Wrong passwords cost time, by user and by source, and the memory for them is bounded."""

from collections.abc import Callable
from functools import partial

import pytest

from sluice_core.auth import Throttled
from sluice_core.auth.tries import KEPT, Limit, Tries


class Clock:
    """A clock that stands still."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tries(clock: Clock) -> Tries:
    return Tries(user=Limit(3, 8.0), source=Limit(6, 100.0), clock=clock)


def wait(begin: Callable[[], None]) -> float:
    """Return how long one is told to wait; 0: not at all."""
    try:
        begin()
    except Throttled as exc:
        return exc.wait
    return 0


def test_what_is_free_costs_nothing_and_the_rest_costs_more_and_more(tries: Tries, clock: Clock) -> None:
    waits = []
    for number in range(10):
        while waited := wait(partial(tries.begin, "ada", f"10.0.0.{number}")):
            waits.append(waited)
            clock.now += waited
    assert waits == [1, 2, 4, 8, 8, 8]


def test_a_try_that_comes_too_soon_is_not_counted(tries: Tries, clock: Clock) -> None:
    for _ in range(4):
        tries.begin("ada", "10.0.0.1")
    for _ in range(50):
        assert wait(lambda: tries.begin("ada", "10.0.0.2")) == 1
    clock.now += 1
    tries.begin("ada", "10.0.0.2")


def test_one_source_is_slowed_down_whatever_names_it_tries(tries: Tries) -> None:
    for number in range(7):
        tries.begin(f"user-{number}", "10.0.0.1")
    assert wait(lambda: tries.begin("somebody", "10.0.0.1")) == 1
    assert wait(lambda: tries.begin("somebody", "10.0.0.2")) == 0


def test_what_begins_at_once_is_not_free_at_once(tries: Tries) -> None:
    begun = [wait(lambda: tries.begin("ada", "10.0.0.1")) for _ in range(20)]
    assert begun.count(0) == 4


def test_a_right_password_lets_the_user_begin_anew_and_not_the_source(tries: Tries) -> None:
    for number in range(6):
        tries.begin(f"user-{number}", "10.0.0.1")
    tries.begin("mine", "10.0.0.1")
    tries.succeeded("mine", "10.0.0.1")
    # An account of one's own does not wash away the tries of others.
    tries.begin("victim", "10.0.0.1")
    assert wait(lambda: tries.begin("victim", "10.0.0.1")) == 1


def test_right_passwords_alone_cost_nothing(tries: Tries) -> None:
    for _ in range(100):
        tries.begin("ada", "10.0.0.1")
        tries.succeeded("ada", "10.0.0.1")


def test_what_was_not_looked_at_costs_nothing(tries: Tries) -> None:
    for _ in range(100):
        tries.begin("ada", "10.0.0.1")
        tries.undecided("ada", "10.0.0.1")


def test_failures_are_forgotten_after_a_while(tries: Tries, clock: Clock) -> None:
    for _ in range(4):
        tries.begin("ada", "10.0.0.1")
    clock.now += 1000
    for _ in range(4):
        tries.begin("ada", "10.0.0.1")


def test_no_number_of_names_fills_the_memory(clock: Clock) -> None:
    tries = Tries(source=Limit(10**9, 1.0), clock=clock)
    for number in range(KEPT + 100):
        tries.begin(f"user-{number}", "10.0.0.1")
    assert len(tries._users._counts) == KEPT
