"""The scheduler: every job is in one place, also when workers die and jobs are taken back."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

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
    assert len(assigned(scheduler)) == 4  # in what a ring holds, of which it may have to skip as much as one
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


def test_slow_jobs_are_announced_and_quick_ones_need_not_be() -> None:
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


def test_a_worker_that_had_its_number_of_jobs_is_replaced() -> None:
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


ACTIONS = ["add", "tiny", "assign", "finish", "die", "cancel", "take back"]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(ACTIONS), st.integers(0, 9))))
def test_no_job_is_lost_or_in_two_places(steps: list[tuple[str, int]]) -> None:
    scheduler = with_workers(2)
    workers = [1, 2]
    tasks: dict[int, Task] = {}
    ended: set[int] = set()
    windows: dict[int, dict[int, int]] = {1: {}, 2: {}}  # by worker: sequence and id of each job in flight
    tiny = new_target(BATCH_NS // 3)

    def take() -> None:
        for batch in scheduler.assign():
            windows[batch.worker].update(enumerate((job.id for job in batch.jobs), batch.sequence))

    def step(action: str, number: int) -> None:
        worker = workers[number % 2]
        if action == "add":
            task = tasks[len(tasks) + 1] = Task(len(tasks) + 1, number * WINDOW_BYTES // 8)
            scheduler.add([task])
        elif action == "tiny":
            several = [Task(len(tasks) + more, target=tiny) for more in range(1, number + 1)]
            tasks.update((task.id, task) for task in several)
            scheduler.add(several)
        elif action == "assign":
            take()
        elif action == "finish":
            if windows[worker]:
                first = min(windows[worker])
                count = (
                    1 + number // 4 if all(first + more in windows[worker] for more in range(1 + number // 4)) else 1
                )
                jobs = [windows[worker].pop(first + more) for more in range(count)]
                assert [task and task.id for task in scheduler.finished(worker, first, count)] == jobs
                ended.update(jobs)
        elif action == "die":
            jobs_there = windows.pop(worker)
            running = min(jobs_there, default=0)
            failed = scheduler.lost(worker, running)
            assert (failed.id if failed else 0) == jobs_there.get(running, 0)
            ended.update(list(jobs_there.values())[:1])
            workers[number % 2] = max(workers) + 1
            windows[workers[number % 2]] = {}
            scheduler.add_worker(workers[number % 2])
        elif action == "take back":
            running = min(windows[worker], default=0) - number % 2
            scheduler.take_back(worker, running)
            windows[worker] = {key: value for key, value in windows[worker].items() if key <= running}
        elif tasks:
            task = tasks[number % len(tasks) + 1]
            if not task.claimed:
                task.cancelled = True
                ended.add(task.id)

    for action, number in steps:
        step(action, number)
    flight = [job for jobs in windows.values() for job in jobs.values()]
    drained = [task.id for task in scheduler.drain()]
    assert sorted(set(drained) | ended) == sorted(tasks)
    assert len(drained) == len(set(drained))
    assert set(drained[: len(flight)]) == set(flight)
