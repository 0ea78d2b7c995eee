"""The statistics on made-up timings, and the order in which candidates take turns."""
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mspe_mm.benchmark.timing import SHORTEST, calls_in_a_row, device_clock, interleave, paired_ratio, spread

times = st.floats(1e-6, 1e3)


class FakeTime:
    """Steps take as long as they say, on a clock that nobody else moves."""

    def __init__(self):
        self.now, self.calls = 0., []

    def step(self, name, seconds):
        def run(number):
            self.calls.append((number, name))
            self.now += seconds(number)
        return run

    def clock(self):
        return self.now


def test_candidates_take_turns_and_every_other_round_runs_backwards():
    time = FakeTime()
    steps = [time.step(name, lambda _: 1.) for name in 'abc']
    interleave(steps, range(3), [1, 1, 1], time.clock)
    assert time.calls == [(0, 'a'), (0, 'b'), (0, 'c'), (1, 'c'), (1, 'b'), (1, 'a'), (2, 'a'), (2, 'b'), (2, 'c')]


def test_seconds_are_those_of_one_call_by_step_and_round():
    time = FakeTime()
    steps = [time.step('a', lambda number: 1. + number), time.step('b', lambda number: 0.25)]
    assert interleave(steps, range(3), [1, 4], time.clock) == [[1., 2., 3.], [0.25, 0.25, 0.25]]
    assert [name for _, name in time.calls].count('b') == 12


@pytest.mark.parametrize('seconds', [0., 1e-5, 0.3 * SHORTEST, SHORTEST, 2.])
def test_calls_in_a_row_take_the_shortest_time_at_least_and_hardly_more(seconds):
    calls = calls_in_a_row(seconds)
    assert calls >= 1
    assert calls * max(seconds, 1e-7) >= SHORTEST * (1 - 1e-9)
    assert calls == 1 or (calls - 1) * max(seconds, 1e-7) < SHORTEST


@given(st.lists(times, min_size=2, max_size=20))
def test_spread_is_median_and_quartiles(values):
    q1, median, q3 = statistics.quantiles(values, n=4, method='inclusive')
    assert spread(values) == pytest.approx(dict(median=median, q1=q1, q3=q3), rel=1e-9)


def test_spread_of_one():
    assert spread([3.]) == dict(median=3., q1=3., q3=3.)


@given(st.lists(st.tuples(times, st.floats(0.5, 50)), min_size=1, max_size=20), st.floats(0.01, 100))
def test_a_machine_that_slows_down_for_a_while_leaves_the_ratio_alone(rounds, ratio):
    peer = [seconds * slowdown for seconds, slowdown in rounds]
    ours = [seconds * ratio for seconds in peer]
    assert paired_ratio(ours, peer) == pytest.approx(dict(median=ratio, q1=ratio, q3=ratio), rel=1e-9)


def test_the_ratio_is_ours_over_the_peers():
    assert paired_ratio([1., 2., 9.], [2., 2., 3.])['median'] == 1.


def test_the_clock_of_a_cpu_runs():
    clock = device_clock('cpu')
    assert clock() <= clock()
