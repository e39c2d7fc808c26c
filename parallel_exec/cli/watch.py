"""`pexec run --watch`: each document runs the plugin as its file is when the document is read.

A thread reads the documents and hands them to a pool, so that a result is given when it is there, even if the next
document takes its time. Before each it looks at the plugin's file, and deploys it anew when that has changed.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Generator, Iterator
from concurrent.futures import Future

from parallel_exec.cli.batch import Outcome
from parallel_exec.cli.inputs import Document
from parallel_exec.cli.options import load_plugin
from parallel_exec.errors import PexecError
from parallel_exec.limits import Limits
from parallel_exec.plugins import AnyPlugin
from parallel_exec.pool import Pool
from parallel_exec.sandbox import MemoryImage
from parallel_exec.sandbox._js.functions import has_function

# Documents that are read and whose outcomes have not been taken, per worker.
AHEAD_PER_WORKER = 8
_NAME = "plugin"


class Note(str):
    """A line for the user, between outcomes."""

    __slots__ = ()


_Item = tuple[Document, Future[bytes] | None] | Note | BaseException | None


def run_watched(
    path: str, plugin: AnyPlugin, function: str, documents: Iterator[Document], *, limits: Limits, workers: int
) -> Generator[Outcome | Note]:
    """Yield the outcomes of all documents, in their order, and notes on what became of the plugin's file.

    Args:
        path: the plugin's file.
        plugin: what it was when it was read.
        function: what to run; its results are left as JSON text.
    """
    with Pool(workers, limits=limits) as pool:
        reader = _Reader(pool, path, plugin, function, documents, limits, AHEAD_PER_WORKER * workers)
        try:
            while (item := reader.items.get()) is not None:
                if isinstance(item, BaseException):
                    raise item
                yield item if isinstance(item, Note) else _outcome(*item)
        finally:
            reader.stop()


class _Reader:
    """The thread that reads and submits.

    Attributes:
        items: what it has to say, in the order of the documents; None at their end.
    """

    def __init__(
        self,
        pool: Pool,
        path: str,
        plugin: AnyPlugin,
        function: str,
        documents: Iterator[Document],
        limits: Limits,
        ahead: int,
    ) -> None:
        self.items: queue.Queue[_Item] = queue.Queue(ahead)
        self._pool = pool
        self._path = path
        self._function = function
        self._documents = documents
        self._limits = limits
        self._stopped = False
        self._seen = _look(path)
        pool.deploy(_NAME, plugin)
        self._deployed = pool.deployment(_NAME).function(function, input="json", output="bytes")
        threading.Thread(target=self._run, name="pexec reader", daemon=True).start()

    def stop(self) -> None:
        """Let the thread end when it comes to it: it may wait for a document for ever."""
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
                self._redeploy()
                future = None if document.text is None else self._pool.submit(self._deployed, document.text)
                # The pool has the text now; an outcome needs only to know where it comes from.
                self.items.put((Document(document.index, document.origin, None, document.problem), future))
        except BaseException as error:
            self.items.put(error)
        else:
            self.items.put(None)

    def _redeploy(self) -> None:
        seen = _look(self._path)
        if seen == self._seen:
            return
        self._seen = seen
        try:
            plugin = load_plugin(self._path)
            image = plugin.image(limits=self._limits)
            if isinstance(image, MemoryImage) and not has_function(image, self._function, limits=self._limits):
                raise PexecError(f"the plugin has no function {self._function!r} any more").at(plugin=plugin.name)
            version = self._pool.deploy(_NAME, plugin)
        except PexecError as error:
            self.items.put(Note(f"{error}; the version before goes on"))
        else:
            self.items.put(Note(f"{self._path} has changed; it runs as version {version.number}"))


def _look(path: str) -> tuple[int, ...]:
    """What changes when the file does; nothing while there is none, as in the middle of being replaced."""
    try:
        found = os.stat(path)
    except OSError:
        return ()
    return found.st_mtime_ns, found.st_size, found.st_ino


def _outcome(document: Document, future: Future[bytes] | None) -> Outcome:
    if future is None:
        return Outcome(document, None, document.problem)
    try:
        return Outcome(document, future.result())
    except PexecError as error:
        return Outcome(document, None, str(error))
