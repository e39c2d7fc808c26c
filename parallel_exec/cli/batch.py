"""Running a function over many documents, in this process as long as that is quick, and then in a pool.

A pool takes some 100 ms to start, and a job's way to a worker and back costs this process more than a tiny job itself.
So the first documents run here; if there are still some when that time is over, and they are worth it, the rest goes to
a pool.
"""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future
from dataclasses import dataclass

from parallel_exec.cli.inputs import Document
from parallel_exec.errors import PexecError
from parallel_exec.limits import Limits
from parallel_exec.plugins import PluginFunction
from parallel_exec.sandbox import Image, Sandbox

# Seconds after which the documents so far are looked at, to decide whether the rest goes to a pool.
ALONE_S = 0.2
# Seconds per job from which on it does; handing a job to a worker and taking its result costs some 30 us.
WORTH_S = 60e-6
IN_FLIGHT_PER_WORKER = 32
IN_FLIGHT_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one document: a result as JSON text, or a line that says why there is none."""

    document: Document
    result: bytes | None
    problem: str = ""


def run_batch(
    function: PluginFunction,
    image: Image,
    documents: Iterator[Document],
    *,
    limits: Limits,
    workers: int,
    alone_s: float = ALONE_S,
    worth_s: float = WORTH_S,
) -> Generator[Outcome]:
    """Yield the outcomes of all documents, in their order.

    Args:
        function: what to run; it takes JSON text, and its results are left as such.
        image: the plugin's image, for this process.
        workers: processes of the pool; with 1, everything runs here.
        alone_s: seconds after which a pool is started if there are documents left, and they are worth it.
        worth_s: seconds that a job must take on average for that, over the last `alone_s`.
    """
    spent, jobs = 0.0, 0
    with Sandbox(image, limits=limits) as sandbox:
        for document in documents:
            if workers > 1 and jobs and spent >= alone_s:
                if spent / jobs >= worth_s and (following := next(documents, None)) is not None:
                    sandbox.close()
                    yield from _in_pool(function, itertools.chain([document, following], documents), limits, workers)
                    return
                spent, jobs = 0.0, 0
            start = time.perf_counter()
            outcome = _here(sandbox, function, document)
            spent += time.perf_counter() - start
            jobs += 1
            yield outcome


def _here(sandbox: Sandbox, function: PluginFunction, document: Document) -> Outcome:
    if document.text is None:
        return Outcome(document, None, document.problem)
    try:
        result = sandbox.call(function.name, document.text, input=function.input, output=function.output)
        return Outcome(document, result)
    except PexecError as error:
        return Outcome(document, None, str(error))


def _in_pool(
    function: PluginFunction, documents: Iterator[Document], limits: Limits, workers: int
) -> Iterator[Outcome]:
    from parallel_exec.pool import Pool

    waiting: deque[tuple[Document, int, Future[bytes] | None]] = deque()
    held = 0
    with Pool(workers, limits=limits) as pool:
        try:
            for document in documents:
                size = len(document.text or b"")
                while waiting and (len(waiting) >= workers * IN_FLIGHT_PER_WORKER or held + size > IN_FLIGHT_BYTES):
                    held -= waiting[0][1]
                    yield _outcome(*waiting.popleft())
                future = None if document.text is None else pool.submit(function, document.text)
                # The pool has the text now; an outcome needs only to know where it comes from.
                waiting.append((Document(document.index, document.origin, None, document.problem), size, future))
                held += size
                while waiting and (waiting[0][2] is None or waiting[0][2].done()):
                    held -= waiting[0][1]
                    yield _outcome(*waiting.popleft())
            while waiting:
                yield _outcome(*waiting.popleft())
        finally:
            for _document, _size, left in waiting:
                if left is not None:
                    left.cancel()


def _outcome(document: Document, _size: int, future: Future[bytes] | None) -> Outcome:
    if future is None:
        return Outcome(document, None, document.problem)
    try:
        return Outcome(document, future.result())
    except PexecError as error:
        return Outcome(document, None, str(error))
