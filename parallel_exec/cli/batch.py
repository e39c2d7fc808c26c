"""Running a function over many documents: in this process as long as that is quick, then in a pool; or in a pool that
follows the plugin's file.

A pool takes some 100 ms to start, and sending a job to a worker and back costs this process more than a tiny job does.
So the first documents run here; if some are left after `ALONE_S`, and jobs are slow enough, the rest go to a pool.
"""

from __future__ import annotations

import itertools
import queue
import threading
import time
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from parallel_exec.cli.inputs import Document
from parallel_exec.cli.options import load_plugin
from parallel_exec.errors import PexecError
from parallel_exec.limits import Limits
from parallel_exec.plugins import AnyPlugin, PluginFunction
from parallel_exec.sandbox import Image, MemoryImage, Sandbox
from parallel_exec.sandbox._js.functions import has_function

if TYPE_CHECKING:
    from parallel_exec.pool import Pool
    from parallel_exec.pool._deployment import DeployedFunction

# Seconds of running documents here before it is decided whether the rest go to a pool.
ALONE_S = 0.2
# Seconds per job above which they do; sending a job to a worker and receiving its result costs some 30 us.
WORTH_S = 60e-6
IN_FLIGHT_PER_WORKER = 32
IN_FLIGHT_BYTES = 64 << 20
# How many documents per worker `run_watched` reads before their outcomes are taken.
AHEAD_PER_WORKER = 8
_WATCHED = "plugin"


@dataclass(frozen=True, slots=True)
class DocumentOutcome:
    """What became of one document: a result as JSON text, or a line that says why there is none."""

    document: Document
    result: bytes | None
    problem: str = ""


class Note(str):
    """A line for the user, between outcomes."""

    __slots__ = ()


def run_batch(
    function: PluginFunction,
    image: Image,
    documents: Iterator[Document],
    *,
    limits: Limits,
    workers: int,
    alone_s: float = ALONE_S,
    worth_s: float = WORTH_S,
) -> Generator[DocumentOutcome]:
    """Yield the outcomes of all documents, in order.

    Args:
        function: what to run; it takes JSON text and returns it.
        image: the plugin's image, for this process.
        documents: the documents, read as they are needed.
        limits: bounds on each job.
        workers: processes of the pool; with 1, everything runs here.
        alone_s: seconds after which a pool is started, if documents are left and `worth_s` is exceeded.
        worth_s: seconds that a job must take on average, over the last `alone_s`, for a pool to be worth it.
    """
    spent, jobs = 0.0, 0
    with Sandbox(image, limits=limits) as sandbox:
        for document in documents:
            if workers > 1 and jobs and spent >= alone_s:
                if spent / jobs >= worth_s and (following := next(documents, None)) is not None:
                    sandbox.close()
                    yield from _run_in_pool(
                        function, itertools.chain([document, following], documents), limits, workers
                    )
                    return
                spent, jobs = 0.0, 0
            start = time.perf_counter()
            outcome = _run_here(sandbox, function, document)
            spent += time.perf_counter() - start
            jobs += 1
            yield outcome


def _run_here(sandbox: Sandbox, function: PluginFunction, document: Document) -> DocumentOutcome:
    if document.text is None:
        return DocumentOutcome(document, None, document.problem)
    try:
        result = sandbox.call(function.name, document.text, input=function.input, output=function.output)
        return DocumentOutcome(document, result)
    except PexecError as error:
        return DocumentOutcome(document, None, str(error))


def _run_in_pool(
    function: PluginFunction, documents: Iterator[Document], limits: Limits, workers: int
) -> Iterator[DocumentOutcome]:
    from parallel_exec.pool import Pool

    waiting: deque[tuple[Document, int, Future[bytes] | None]] = deque()
    held = 0
    with Pool(workers, limits=limits) as pool:
        try:
            for document in documents:
                size = len(document.text or b"")
                while waiting and (len(waiting) >= workers * IN_FLIGHT_PER_WORKER or held + size > IN_FLIGHT_BYTES):
                    first, freed, future = waiting.popleft()
                    held -= freed
                    yield _await(first, future)
                waiting.append((document.without_text(), size, _submit(pool, function, document)))
                held += size
                while waiting and (waiting[0][2] is None or waiting[0][2].done()):
                    first, freed, future = waiting.popleft()
                    held -= freed
                    yield _await(first, future)
            while waiting:
                first, _size, future = waiting.popleft()
                yield _await(first, future)
        finally:
            for _document, _size, left in waiting:
                if left is not None:
                    left.cancel()


def _submit(pool: Pool, function: PluginFunction | DeployedFunction, document: Document) -> Future[bytes] | None:
    return None if document.text is None else pool.submit(function, document.text)


def _await(document: Document, future: Future[bytes] | None) -> DocumentOutcome:
    if future is None:
        return DocumentOutcome(document, None, document.problem)
    try:
        return DocumentOutcome(document, future.result())
    except PexecError as error:
        return DocumentOutcome(document, None, str(error))


def run_watched(
    path: str, plugin: AnyPlugin, function: str, documents: Iterator[Document], *, limits: Limits, workers: int
) -> Generator[DocumentOutcome | Note]:
    """Yield the outcomes of all documents, in order, and notes on changes of the plugin's file.

    Each document runs the plugin that the file holds when the document is read. A thread reads the documents and
    submits them to a pool, so that a result is yielded as soon as it is there, even if the next document is late.

    Args:
        path: the plugin's file.
        plugin: what the file held when it was read first.
        function: the name of the function to run; its results stay JSON text.
        documents: the documents; the thread may still be waiting for one when this generator is closed.
        limits: bounds on each job.
        workers: processes of the pool.
    """
    from parallel_exec.pool import Pool

    with Pool(workers, limits=limits) as pool:
        deployed = _DeployedFile(pool, path, plugin, function, limits)
        reader = _Reader(pool, deployed, documents, AHEAD_PER_WORKER * workers)
        try:
            while (item := reader.items.get()) is not None:
                if isinstance(item, BaseException):
                    raise item
                yield item if isinstance(item, Note) else _await(*item)
        finally:
            reader.stop()


class _DeployedFile:
    """A plugin's file, deployed again whenever it has changed."""

    def __init__(self, pool: Pool, path: str, plugin: AnyPlugin, function: str, limits: Limits) -> None:
        self._pool = pool
        self._path = path
        self._name = function
        self._limits = limits
        self._seen = self._look()
        pool.deploy(_WATCHED, plugin)
        self.function = pool.deployment(_WATCHED).function(function, input="json", output="bytes")

    def refresh(self) -> Note | None:
        """Deploy the file if it has changed, and return what there is to say about that."""
        seen = self._look()
        if seen == self._seen:
            return None
        self._seen = seen
        try:
            plugin = load_plugin(self._path)
            image = plugin.image(limits=self._limits)
            if isinstance(image, MemoryImage) and not has_function(image, self._name, limits=self._limits):
                return Note(
                    f"{plugin.name}: the plugin no longer has a function {self._name!r}; keeping the old version"
                )
            version = self._pool.deploy(_WATCHED, plugin)
        except PexecError as error:
            return Note(f"{error}; keeping the old version")
        return Note(f"{self._path} has changed and is now version {version.number}")

    def _look(self) -> tuple[int, ...]:
        """Return what changes when the file does; nothing while there is no file, as when it is being replaced."""
        try:
            found = Path(self._path).stat()
        except OSError:
            return ()
        return found.st_mtime_ns, found.st_size, found.st_ino


class _Reader:
    """The thread that reads and submits documents.

    Attributes:
        items: documents with their jobs, and notes, in order; an exception or None at the end.
    """

    def __init__(self, pool: Pool, deployed: _DeployedFile, documents: Iterator[Document], ahead: int) -> None:
        self.items: queue.Queue[tuple[Document, Future[bytes] | None] | Note | BaseException | None]
        self.items = queue.Queue(ahead)
        self._pool = pool
        self._deployed = deployed
        self._documents = documents
        self._stopped = False
        threading.Thread(target=self._run, name="pexec reader", daemon=True).start()

    def stop(self) -> None:
        """Let the thread end before its next document, for which it may wait forever; cancel what it has submitted."""
        self._stopped = True
        while not self.items.empty():
            item = self.items.get()
            if isinstance(item, tuple) and item[1] is not None:
                item[1].cancel()

    def _run(self) -> None:
        try:
            for document in self._documents:
                if self._stopped:
                    return
                note = self._deployed.refresh()
                if note is not None:
                    self.items.put(note)
                self.items.put((document.without_text(), _submit(self._pool, self._deployed.function, document)))
        except BaseException as error:
            self.items.put(error)
        else:
            self.items.put(None)
