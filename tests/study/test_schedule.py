"""Which worker takes what, and how long a study then takes."""

import heapq

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusion_bench.study.schedule import Estimate, Schedule


def make_schedule(programs, compile_seconds=1.0):
    """Returns a schedule of jobs (program, seed), from a number of seeds and seconds for each program."""
    jobs = [(name, seed) for name, (seeds, _) in programs.items() for seed in range(seeds)]
    return Schedule(jobs, lambda job: Estimate(job[0], programs[job[0]][1], compile_seconds))


def replay(schedule, programs, workers, compile_seconds=1.0):
    """Returns the jobs of each worker, in order, and when the last one ends, if every duration is as expected."""
    taken, compiled = {worker: [] for worker in range(workers)}, {}
    idle, busy, now = list(range(workers)), [], 0.0
    while True:
        for worker in list(idle):
            job = schedule.take(worker, now)
            if job is not None:
                idle.remove(worker)
                seconds = programs[job[0]][1] + (compiled.get(worker) != job[0]) * compile_seconds
                compiled[worker] = job[0]
                taken[worker].append(job)
                heapq.heappush(busy, (now + seconds, worker))
        if not busy:
            return taken, now
        now, worker = heapq.heappop(busy)
        schedule.done(worker, now)
        idle.append(worker)


def test_a_worker_keeps_to_a_program_and_the_longest_come_first():
    programs = {"short": (2, 1.0), "long": (2, 5.0), "middle": (2, 3.0)}
    taken, _ = replay(make_schedule(programs), programs, 2)
    assert taken[0][:2] == [("long", 0), ("long", 1)]
    assert taken[1] == [("middle", 0), ("middle", 1), ("short", 0), ("short", 1)]


@pytest.mark.parametrize(("asked", "helps"), [(0.0, True), (1.2, False)])
def test_seeds_are_shared_at_the_end_where_that_ends_earlier(asked, helps):
    """After a second of compilation, two of half a second end at 2.0 without help, at `asked` + 1.5 with it."""
    schedule = make_schedule({"only": (2, 0.5)})
    assert schedule.take(0, 0.0) == ("only", 0)
    assert (schedule.take(1, asked) is not None) == helps


@given(
    st.dictionaries(st.text("abcdef", min_size=1, max_size=2), st.tuples(st.integers(1, 4), st.floats(0.1, 20))),
    st.integers(1, 5),
)
def test_every_training_is_done_once(programs, workers):
    taken, end = replay(make_schedule(programs), programs, workers)
    done = [job for jobs in taken.values() for job in jobs]
    assert sorted(done) == sorted((name, seed) for name, (seeds, _) in programs.items() for seed in range(seeds))
    work = sum(seeds * seconds for seeds, seconds in programs.values())
    assert end >= work / workers - 1e-6


def test_the_training_of_a_worker_that_died_is_handed_out_again():
    schedule = make_schedule({"only": (1, 1.0)})
    assert schedule.take(0, 0.0) == ("only", 0)
    schedule.lost(0)
    assert schedule.take(1, 1.0) is None
    schedule.again(("only", 0))
    assert schedule.waiting == 1
    assert schedule.take(1, 1.0) == ("only", 0)


def test_a_real_duration_replaces_the_expected_one():
    """A hundredth of a second each is not worth another compilation; nine seconds are."""
    schedule = make_schedule({"only": (3, 0.01)})
    schedule.take(0, 0.0)
    assert schedule.take(1, 1.0) is None
    schedule.done(0, 10.0)
    schedule.take(0, 10.0)
    assert schedule.take(1, 10.0) == ("only", 2)


def test_a_training_that_was_not_made_here_teaches_nothing():
    schedule = make_schedule({"only": (4, 5.0)})
    schedule.take(0, 0.0)
    schedule.done(0, 1.0, trained=False)
    schedule.take(0, 1.0)
    assert schedule.take(1, 1.0) == ("only", 2)


def test_work_that_takes_longer_than_expected_gets_help():
    schedule = make_schedule({"only": (3, 5.0)})
    schedule.take(0, 0.0)
    assert schedule.take(1, 1000.0) == ("only", 1)
