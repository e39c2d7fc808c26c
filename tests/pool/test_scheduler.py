"""The scheduler: every job is in one place, also when workers die and hand-overs are interrupted."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from parallel_exec.pool.scheduler import CRASH_ROW_S, CRASHES_AT_LEAST, PAIR_BYTES, WINDOW_BYTES, WINDOW_JOBS, Scheduler


class Task:
    def __init__(self, id: int, size: int = 10) -> None:
        self.id = id
        self.size = size
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


def assigned(scheduler: Scheduler[Task]) -> list[tuple[int, int]]:
    return [(worker, job.id) for worker, job in scheduler.assign()]


def test_jobs_go_to_the_emptiest_window_in_their_order() -> None:
    scheduler = with_workers(2)
    for number in range(1, 6):
        scheduler.add(Task(number))
    assert assigned(scheduler) == [(1, 1), (2, 2), (1, 3), (2, 4), (1, 5)]


def test_windows_are_bounded_in_jobs_and_bytes_and_one_job_of_any_size_fits() -> None:
    scheduler = with_workers(1)
    for number in range(1, WINDOW_JOBS + 3):
        scheduler.add(Task(number))
    assert len(assigned(scheduler)) == WINDOW_JOBS
    scheduler = with_workers(1)
    for number in range(1, 5):
        scheduler.add(Task(number, WINDOW_BYTES // 2))
    assert len(assigned(scheduler)) == 2
    scheduler = with_workers(1)
    for number in (1, 2):
        scheduler.add(Task(number, PAIR_BYTES * 3))
    assert assigned(scheduler) == [(1, 1)]
    assert scheduler.finished(1, 1) is not None
    assert assigned(scheduler) == [(1, 2)]


def test_a_lost_worker_hands_back_all_but_what_it_ran() -> None:
    scheduler = with_workers(2)
    for number in range(1, 12):
        scheduler.add(Task(number))
    assigned(scheduler)
    failed = scheduler.lost(1, 3)
    assert failed is not None and failed.id == 3
    scheduler.add_worker(3)
    assert assigned(scheduler) == [(3, 1), (3, 5), (3, 7), (3, 9)]
    assert scheduler.finished(1, 1) is None


def test_a_closed_window_gets_nothing() -> None:
    scheduler = with_workers(1)
    scheduler.close_window(1)
    scheduler.add(Task(1))
    assert assigned(scheduler) == []


def test_cancelled_jobs_are_dropped_and_claimed_ones_are_not_drained() -> None:
    scheduler = with_workers(1)
    tasks = [Task(number) for number in range(1, 4)]
    for task in tasks:
        scheduler.add(task)
    tasks[1].cancelled = True
    tasks[0].claimed = True
    assert [task.id for task in scheduler.drain_unclaimed()] == [2, 3]
    assert assigned(scheduler) == [(1, 1)]


def test_crashes_in_a_row_are_hopeless_unless_a_job_finishes_or_time_passes() -> None:
    scheduler = with_workers(1)
    for _ in range(CRASHES_AT_LEAST - 1):
        scheduler.count_crash(100.0)
    assert not scheduler.hopeless(1)
    scheduler.add(Task(1))
    assigned(scheduler)
    scheduler.finished(1, 1)
    scheduler.count_crash(100.0)
    assert not scheduler.hopeless(1)
    for _ in range(CRASHES_AT_LEAST):
        scheduler.count_crash(101.0)
    assert scheduler.hopeless(1)
    assert not scheduler.hopeless(CRASHES_AT_LEAST * 10)
    scheduler.count_crash(101.0 + CRASH_ROW_S)
    assert not scheduler.hopeless(1)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["add", "assign", "interrupt", "finish", "die", "cancel"]), st.integers(0, 9)))
)
def test_no_job_is_lost_or_in_two_places(steps: list[tuple[str, int]]) -> None:
    scheduler = with_workers(2)
    workers = [1, 2]
    tasks: dict[int, Task] = {}
    ended: set[int] = set()
    windows: dict[int, list[int]] = {1: [], 2: []}

    def take(interrupted: int | None) -> None:
        for count, (worker, job) in enumerate(scheduler.assign()):
            if count == interrupted:
                raise KeyboardInterrupt
            windows[worker].append(job.id)

    def step(action: str, number: int) -> None:
        if action == "add":
            task = tasks[len(tasks) + 1] = Task(len(tasks) + 1, number * WINDOW_BYTES // 8)
            scheduler.add(task)
        elif action == "assign":
            take(None)
        elif action == "interrupt":
            try:
                take(number % 3)
            except KeyboardInterrupt:
                scheduler.undo()
        elif action == "finish":
            worker = workers[number % 2]
            if windows[worker]:
                job = windows[worker].pop(0)
                assert scheduler.finished(worker, job) is tasks[job]
                ended.add(job)
        elif action == "die":
            worker = workers[number % 2]
            jobs = windows.pop(worker)
            failed = scheduler.lost(worker, jobs[0] if jobs else 0)
            assert (failed.id if failed else None) == (jobs[0] if jobs else None)
            ended.update(jobs[:1])
            workers[number % 2] = max(workers) + 1
            windows[workers[number % 2]] = []
            scheduler.add_worker(workers[number % 2])
        elif tasks:
            task = tasks[number % len(tasks) + 1]
            if not task.claimed:
                task.cancelled = True
                ended.add(task.id)

    for action, number in steps:
        step(action, number)
    flight = [job for jobs in windows.values() for job in jobs]
    drained = [task.id for task in scheduler.drain()]
    assert sorted(set(drained) | ended) == sorted(tasks)
    assert len(drained) == len(set(drained))
    assert set(drained[: len(flight)]) == set(flight)


def test_an_interrupt_at_any_line_of_a_hand_over_is_undone(interrupt_at_every_line: Callable[..., int]) -> None:
    def attempt(interrupted: Callable[[Callable[[], object]], bool]) -> None:
        scheduler = with_workers(2)
        for number in range(1, 5):
            scheduler.add(Task(number))

        def take() -> None:
            for _ in scheduler.assign():
                pass

        if interrupted(take):
            scheduler.undo()
        assigned(scheduler)
        assert sorted(task.id for task in scheduler.drain()) == [1, 2, 3, 4]
        assert scheduler.idle

    assert interrupt_at_every_line(attempt, "scheduler.py") > 20
