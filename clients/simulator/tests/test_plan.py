"""When each step of a run comes: the table and the check values of swf-clients.md 8.1."""

import pytest

from sluice_simulator.plan import Plan, schedule

DELAYS = ("no_beam_not_ready", "beam_not_ready", "beam_ready", "beam_not_ready_end", "broadcast")
ONES = {**{f"{name}_delay": 1.0 for name in DELAYS}, "stf_interval": 1.0}


@pytest.mark.parametrize(
    ("plan", "ticks"),
    [
        pytest.param(Plan(2, 2, daq=ONES), [1, 4.1, 5.2, 6.4, 6.6, 9.7, 10.8, 12.0, 12.2, 14.3], id="check values"),
        pytest.param(
            Plan(None, 2, period=10),
            [5, 13.1, *(14.2 + 2.2 * n for n in range(5)), 25.2, 28.3, *(29.4 + 2.2 * n for n in range(5)), 40.4, 46.5],
            id="two periods of 10 s",
        ),
        pytest.param(
            Plan(10), [5, 13.1, *(14.2 + 2.2 * n for n in range(10)), 34.2, 40.3], id="fast_processing_default"
        ),
        pytest.param(
            Plan(5, daq={"stf_interval": 2.2}),
            [5, 13.1, *(14.2 + 2.4 * n for n in range(5)), 24.0, 30.1],
            id="stf_datataking_default",
        ),
    ],
)
def test_steps_come_at_the_seconds_of_the_contract(plan: Plan, ticks: list[float]) -> None:
    assert [step.tick for step in schedule(plan)] == [pytest.approx(tick) for tick in ticks]


def test_a_run_of_two_periods_has_these_steps() -> None:
    steps = list(schedule(Plan(2, 2)))
    what = [step.what for step in steps]
    assert what[:2] == ["run_imminent", "start_run"]
    assert what[2:-2] == ["stf_gen", "stf_gen", "pause_run", "resume_run", "stf_gen", "stf_gen"]
    assert what[-2:] == ["end_run", "completed"]
    assert [step.more["sequence"] for step in steps if step.what == "stf_gen"] == [1, 2, 3, 4]
    assert steps[-2].more == {"total_stf_files": 4}
    assert steps[4].more == {"state": "run", "substate": "standby", "reason": "Brief standby period"}
