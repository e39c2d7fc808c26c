"""The scheduler: every job is in exactly one place, even when workers die and jobs are taken back."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

import parallel_exec as px
from parallel_exec.pool._scheduling.process_target import BATCH_NS, QUIET_NS, ProcessTarget
from parallel_exec.pool._scheduling.scheduler import (
    BATCH_BYTES,
    CRASH_ROW_S,
    CRASHES_AT_LEAST,
    PAIR_BYTES,
    WINDOW_BATCHES,
    WINDOW_BYTES,
    Scheduler,
)
from parallel_exec.pool._transport.channel import RecordKind, Shared
from parallel_exec.pool._transport.frames import MOST_BATCHED


def new_target(cost_ns: int = 0, domain: str | None = None) -> ProcessTarget:
    shared = Shared(RecordKind.IMAGE, 1, -1, 0)
    target = ProcessTarget((shared, shared), px.Plugin("").function("f"), 11.0, domain)
    if cost_ns:
        target.ran(cost_ns)
    return target


PLAIN = new_target()


class Task:
    kind = 0
    patient = True

    def __init__(self, id: int, size: int = 10, target: ProcessTarget = PLAIN) -> None:
        self.id = id
        self.size = size
        self.target = target
        self.claimed = False
        self.cancelled = False

    def claim(self) -> bool:
        self.claimed = self.claimed or not self.cancelled
        return self.claimed


def with_workers(count: int) -> Scheduler[Task]:
    scheduler: Scheduler[Task] = Scheduler()
    for worker in range(1, count + 1):
        scheduler.add_worker(worker)
    return scheduler


def assigned(scheduler: Scheduler[Task]) -> list[tuple[int, list[int]]]:
    return [(batch.worker, [job.id for job in batch.jobs]) for batch in scheduler.assign()]


def test_jobs_go_to_the_emptiest_window_in_their_order() -> None:
    scheduler = with_workers(2)
    scheduler.add([Task(number) for number in range(1, 6)])
    assert assigned(scheduler) == [(1, [1]), (2, [2]), (1, [3]), (2, [4]), (1, [5])]


def test_windows_are_bounded_in_batches_and_bytes_and_one_job_of_any_size_fits() -> None:
    scheduler = with_workers(1)
    scheduler.add([Task(number) for number in range(1, WINDOW_BATCHES + 3)])
    assert len(assigned(scheduler)) == WINDOW_BATCHES
    scheduler = with_workers(1)
    scheduler.add([Task(number, WINDOW_BYTES // 5) for number in range(1, 7)])
    assert len(assigned(scheduler)) == 4  # as many as fit, since a ring may have to skip as much as one of them
    scheduler = with_workers(1)
    scheduler.add([Task(number, PAIR_BYTES * 3) for number in (1, 2)])
    assert assigned(scheduler) == [(1, [1])]
    assert scheduler.finished(1, 1, 1)[0] is not None
    assert assigned(scheduler) == [(1, [2])]


def test_tiny_jobs_of_one_target_travel_together() -> None:
    tiny = new_target(BATCH_NS // 4 - 1)
    scheduler = with_workers(1)
    scheduler.add([Task(number, target=tiny) for number in range(1, 7)])
    scheduler.add([Task(7), Task(8, target=tiny), Task(9, BATCH_BYTES - 5, tiny)])
    assert tiny.batch == 4
    assert assigned(scheduler) == [(1, [1, 2, 3, 4]), (1, [5, 6]), (1, [7]), (1, [8]), (1, [9])]
    assert [task.id for task in scheduler.finished(1, 2, 3) if task] == [2, 3, 4]
    assert scheduler.finished(1, 2, 1) == [None]


def test_few_jobs_are_shared_among_the_workers() -> None:
    tiny = new_target(1)
    assert tiny.batch == MOST_BATCHED
    scheduler = with_workers(2)
    scheduler.add([Task(number, target=tiny) for number in range(1, 9)])
    assert [len(ids) for _, ids in assigned(scheduler)] == [4, 2, 1, 1]


def test_results_of_slow_jobs_are_announced_and_those_of_quick_ones_need_not_be() -> None:
    for cost, quiet in ((QUIET_NS * 2, [False] * 4), (BATCH_NS, [True] * 4)):
        scheduler = with_workers(1)
        scheduler.add([Task(number, target=new_target(cost)) for number in range(1, 5)])
        assert [batch.quiet for batch in scheduler.assign()] == quiet


def test_a_lost_worker_hands_back_all_but_what_it_ran() -> None:
    scheduler = with_workers(2)
    scheduler.add([Task(number) for number in range(1, 2 * WINDOW_BATCHES + 4)])
    assigned(scheduler)
    failed = scheduler.lost(1, 2)
    assert failed is not None and failed.id == 3
    scheduler.add_worker(3)
    later = [(3, [number]) for number in range(5, 2 * WINDOW_BATCHES, 2)]
    assert assigned(scheduler) == [(3, [1]), *later, (3, [2 * WINDOW_BATCHES + 1])]
    assert scheduler.finished(1, 1, 1) == [None]


def test_what_a_busy_worker_has_not_begun_goes_to_an_idle_one() -> None:
    scheduler = with_workers(2)
    scheduler.add([Task(number) for number in range(1, 7)])
    assigned(scheduler)
    scheduler.finished(2, 1, 3)
    assert scheduler.starving() and scheduler.busiest() == (1, 3)
    scheduler.take_back(1, running=1)
    assert not scheduler.starving()
    assert assigned(scheduler) == [(2, [3]), (2, [5])]
    assert [task and task.id for task in scheduler.finished(1, 1, 3)] == [1, None, None]
    scheduler.add([Task(7)])
    assert assigned(scheduler) == [(1, [7])]


def test_a_worker_runs_one_domain_only_and_is_replaced_for_another() -> None:
    a, b = new_target(domain="a"), new_target(domain="b")
    scheduler = with_workers(2)
    scheduler.add([Task(1, target=a), Task(2, target=b), Task(3, target=b)])
    assert assigned(scheduler) == [(1, [1]), (2, [2]), (2, [3])]
    scheduler.add([Task(4, target=PLAIN), Task(5, target=a)])
    assert assigned(scheduler) == [] and scheduler.spent() is None
    scheduler.finished(1, 1, 1)
    assert assigned(scheduler) == [] and scheduler.spent() == 1
    scheduler.close_window(1)
    scheduler.add_worker(3)
    assert assigned(scheduler) == [(3, [4])] and scheduler.spent() is None


def test_a_worker_that_has_had_its_number_of_jobs_is_replaced() -> None:
    scheduler: Scheduler[Task] = Scheduler(2)
    scheduler.add_worker(1)
    scheduler.add([Task(number) for number in range(1, 4)])
    assert assigned(scheduler) == [(1, [1]), (1, [2])] and scheduler.spent() is None
    scheduler.finished(1, 1, 1)
    scheduler.finished(1, 2, 1)
    assert assigned(scheduler) == [] and scheduler.spent() == 1


def test_a_closed_window_gets_nothing() -> None:
    scheduler = with_workers(1)
    scheduler.close_window(1)
    scheduler.add([Task(1)])
    assert assigned(scheduler) == []


def test_cancelled_jobs_are_dropped_and_claimed_ones_are_not_drained() -> None:
    scheduler = with_workers(1)
    tasks = [Task(number) for number in range(1, 4)]
    scheduler.add(tasks)
    tasks[1].cancelled = True
    tasks[0].claimed = True
    assert [task.id for task in scheduler.drain_unclaimed()] == [2, 3]
    assert assigned(scheduler) == [(1, [1])]


def test_crashes_in_a_row_are_crashes_too_often_unless_a_job_finishes_or_time_passes() -> None:
    scheduler = with_workers(1)
    for _ in range(CRASHES_AT_LEAST - 1):
        scheduler.count_crash(100.0)
    assert not scheduler.crashes_too_often(1)
    scheduler.add([Task(1)])
    assigned(scheduler)
    scheduler.finished(1, 1, 1)
    scheduler.count_crash(100.0)
    assert not scheduler.crashes_too_often(1)
    for _ in range(CRASHES_AT_LEAST):
        scheduler.count_crash(101.0)
    assert scheduler.crashes_too_often(1)
    assert not scheduler.crashes_too_often(CRASHES_AT_LEAST * 10)
    scheduler.count_crash(101.0 + CRASH_ROW_S)
    assert not scheduler.crashes_too_often(1)


class Steps(RuleBasedStateMachine):
    """A scheduler, and what has become of every job given to it."""

    def __init__(self) -> None:
        super().__init__()
        self.scheduler = with_workers(2)
        self.workers = [1, 2]
        self.tasks: dict[int, Task] = {}
        self.ended: set[int] = set()
        self.windows: dict[int, dict[int, int]] = {1: {}, 2: {}}  # by worker: sequence and id of each job in flight
        self.tiny = new_target(BATCH_NS // 3)

    @rule(eighths=st.integers(0, 9))
    def add(self, eighths: int) -> None:
        self._add([Task(len(self.tasks) + 1, eighths * WINDOW_BYTES // 8)])

    @rule(count=st.integers(0, 9))
    def add_tiny_ones(self, count: int) -> None:
        self._add([Task(len(self.tasks) + more, target=self.tiny) for more in range(1, count + 1)])

    def _add(self, tasks: list[Task]) -> None:
        self.tasks.update((task.id, task) for task in tasks)
        self.scheduler.add(tasks)

    @rule()
    def assign(self) -> None:
        for batch in self.scheduler.assign():
            self.windows[batch.worker].update(enumerate((job.id for job in batch.jobs), batch.sequence))

    @rule(which=st.integers(0, 1), count=st.integers(1, 3))
    def finish(self, which: int, count: int) -> None:
        worker = self.workers[which]
        window = self.windows[worker]
        if window:
            first = min(window)
            if any(first + more not in window for more in range(count)):
                count = 1
            jobs = [window.pop(first + more) for more in range(count)]
            assert [task and task.id for task in self.scheduler.finished(worker, first, count)] == jobs
            self.ended.update(jobs)

    @rule(which=st.integers(0, 1))
    def die(self, which: int) -> None:
        worker = self.workers[which]
        window = self.windows.pop(worker)
        running = min(window, default=0)
        failed = self.scheduler.lost(worker, running)
        assert (failed.id if failed else 0) == window.get(running, 0)
        self.ended.update(list(window.values())[:1])
        self.workers[which] = max(self.workers) + 1
        self.windows[self.workers[which]] = {}
        self.scheduler.add_worker(self.workers[which])

    @rule(which=st.integers(0, 1), begun=st.booleans())
    def take_back(self, which: int, *, begun: bool) -> None:
        worker = self.workers[which]
        running = min(self.windows[worker], default=0) - (not begun)
        self.scheduler.take_back(worker, running)
        self.windows[worker] = {key: value for key, value in self.windows[worker].items() if key <= running}

    @rule(number=st.integers(0, 9))
    def cancel(self, number: int) -> None:
        if self.tasks:
            task = self.tasks[number % len(self.tasks) + 1]
            if not task.claimed:
                task.cancelled = True
                self.ended.add(task.id)

    def teardown(self) -> None:
        """Every job has ended or is in one place; those in flight are drained first."""
        in_flight = {job for window in self.windows.values() for job in window.values()}
        drained = [task.id for task in self.scheduler.drain()]
        assert sorted(set(drained) | self.ended) == sorted(self.tasks)
        assert len(drained) == len(set(drained))
        assert set(drained[: len(in_flight)]) == in_flight


def test_no_job_is_lost_or_in_two_places() -> None:
    run_state_machine_as_test(Steps, settings=settings(max_examples=100, stateful_step_count=30))
