"""One fault in one pool, in a process of its own: `python fault_cases.py POOL FAULT FOLDER`, which faults.py runs.

What is seen is printed as it happens, a JSON object a line. The process may hang: whoever runs it has an eye on that.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import resource
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
from fault_pools import CONTESTANTS, Answer, Contestant, Jobs

ANSWER_S = 5.0  # after which there is no answer
MOST_BYTES = 1 << 30  # of memory that a process may have, in the place of a machine that has no more
OTHERS = 20
LIMIT_S = 0.5
ENDLESS_S = 2.0
TAKING_S = 0.001  # what the consumer of an endless map does with a result
DOCUMENT = b'"' + 100_000 * b"x" + b'"'


def say(**facts: Any) -> None:
    print(json.dumps(facts), flush=True)


def works(pool: Contestant) -> str:
    """What becomes of a job that is started now."""
    try:
        return pool.start([("echo", "text")])[0].wait(ANSWER_S)
    except Exception as error:
        return type(error).__name__


def all_of(answers: list[Answer]) -> dict[str, int]:
    until = time.monotonic() + ANSWER_S
    return Counter(answer.wait(max(0.0, until - time.monotonic())) for answer in answers)


def begun(folder: Path, jobs: int = 1) -> list[psutil.Process]:
    """The processes of so many jobs `hold`, as soon as they have begun; those that are still there."""
    until = time.monotonic() + ANSWER_S
    while len(found := list(folder.iterdir())) < jobs:
        if time.monotonic() > until:
            raise TimeoutError("a job was to begin")
        time.sleep(0.005)
    running = []
    for path in found:
        with contextlib.suppress(psutil.NoSuchProcess):
            running.append(psutil.Process(int(path.name)))
    return running


def computes(processes: list[psutil.Process]) -> int:
    """How many of the processes are computing."""

    def spent(process: psutil.Process) -> float:
        with contextlib.suppress(psutil.NoSuchProcess):
            return float(process.cpu_times().user)
        return 0.0

    before = [spent(process) for process in processes]
    time.sleep(0.5)
    return sum(spent(process) > once + 0.05 for process, once in zip(processes, before, strict=True))


def one_bad(pool: Contestant, folder: Path, name: str) -> None:
    """One job that misbehaves among others."""
    most = 0
    done = threading.Event()

    def watch() -> None:
        nonlocal most
        while not done.wait(0.01):
            for child in psutil.Process().children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):
                    most = max(most, child.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    others: Jobs = [("nap", number) for number in range(OTHERS)]
    first = OTHERS // 4
    answers = list(pool.start([*others[:first], (name, str(folder)), *others[first:]]))
    if name == "hold":
        for process in begun(folder):
            process.kill()
    say(bad=answers.pop(first).wait(ANSWER_S))
    say(others=all_of(answers))
    done.set()
    watcher.join()
    say(after=works(pool), most_mib=most / 2**20)


def starved(pool: Contestant, folder: Path) -> None:
    """A job that takes memory without end, where a process cannot have more than so much."""
    one_bad(pool, folder, "eat")


def interrupted(pool: Contestant, folder: Path) -> None:
    """Jobs that never end; whoever runs this process interrupts it."""
    with pool.manager:
        for _ in pool.map("hold", [str(folder)] * 10):
            pass


def killed(pool: Contestant, folder: Path) -> None:
    """One job that never ends, and an idle worker; whoever runs this process kills it."""
    pool.start([("echo", 1), ("hold", str(folder))])
    time.sleep(600)


def endless(pool: Contestant, _folder: Path) -> None:
    """A map whose documents never end, for a while."""
    drawn = itertools.count()
    results, failure = 0, ""
    process = psutil.Process()
    works(pool)
    before = process.memory_info().rss

    def documents() -> Iterator[bytes]:
        for _ in drawn:
            yield bytes(bytearray(DOCUMENT))

    def stop() -> None:
        time.sleep(ENDLESS_S)
        grown = process.memory_info().rss - before
        say(results=results, ahead=next(drawn) - results, grown_mib=grown / 2**20, failure=failure)
        os._exit(0)

    watcher = threading.Thread(target=stop)
    watcher.start()
    try:
        for _ in pool.map("echo", documents()):
            results += 1
            time.sleep(TAKING_S)
    except Exception as error:
        failure = type(error).__name__
    watcher.join()


def cancelled(pool: Contestant, folder: Path) -> None:
    """A running job that nobody wants any more."""
    works(pool)
    stop = pool.stoppable("hold", str(folder))
    running = begun(folder)
    others = list(pool.start([("nap", number) for number in range(OTHERS)]))
    try:
        said = stop()
    except Exception as error:
        said = type(error).__name__
    say(stop=said, others=all_of(others), runs=computes(running), after=works(pool))
    end_of(running)


def limited(pool: Contestant, folder: Path) -> None:
    """A job for each worker that never ends, with a time limit."""
    works(pool)
    answers = list(pool.limited([("hold", str(folder))] * 2, LIMIT_S))
    say(bad=all_of(answers))
    running = begun(folder)
    say(runs=computes(running), after=works(pool))
    end_of(running)


def end_of(processes: list[psutil.Process]) -> None:
    """Let the pool be closed, which is not what is asked here."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def forked(pool: Contestant, _folder: Path) -> None:
    """A fork of the program that uses the pool, and ends as programs do."""
    works(pool)
    child = os.fork()
    if child == 0:
        say(fork=works(pool))
        sys.exit(0)
    until = time.monotonic() + 2 * ANSWER_S
    while os.waitpid(child, os.WNOHANG)[0] == 0:
        if time.monotonic() > until:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            say(fork_ends=False)
            break
        time.sleep(0.01)
    else:
        say(fork_ends=True)
    say(after=works(pool))


CASES: dict[str, Callable[[Contestant, Path], None]] = {
    "killed": lambda pool, folder: one_bad(pool, folder, "hold"),
    "exit": lambda pool, folder: one_bad(pool, folder, "leave"),
    "memory": starved,
    "result": lambda pool, folder: one_bad(pool, folder, "unsendable"),
    "error": lambda pool, folder: one_bad(pool, folder, "unpicklable"),
    "unpickle": lambda pool, folder: one_bad(pool, folder, "unloadable"),
    "interrupt": interrupted,
    "parent": killed,
    "endless": endless,
    "cancel": cancelled,
    "limit": limited,
    "fork": forked,
}


def main() -> None:
    name, fault, folder = sys.argv[1:]
    if fault in ("memory", "endless"):
        resource.setrlimit(resource.RLIMIT_DATA, (MOST_BYTES, MOST_BYTES))
    pool = CONTESTANTS[name][1]()
    CASES[fault](pool, Path(folder))
    with pool.manager:
        pass


if __name__ == "__main__":
    main()
