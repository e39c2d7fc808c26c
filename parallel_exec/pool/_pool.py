"""The public face of the pool: a `concurrent.futures.Executor` for functions of plugins.

::

    caller            submit, map ──► Core ──► Scheduler: which job is where
                                       │
    per worker        request ring ◄───┤   (shared memory; a document that has no room travels in a segment)
                      result ring ─────► collector thread ──► futures

The rest of the story is in README.md, beside this file.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable, Iterator
from concurrent.futures import Executor
from types import TracebackType
from typing import Any, Literal, Self

from parallel_exec._codec.documents import prepare
from parallel_exec._cpus import usable_cpus
from parallel_exec._signals import held
from parallel_exec.errors import PexecError
from parallel_exec.limits import Limits
from parallel_exec.plugins import AnyPlugin, PluginFunction
from parallel_exec.pool import _awaiting
from parallel_exec.pool._backend import Backend
from parallel_exec.pool._deployment import DeployedFunction, Deployment
from parallel_exec.pool._events import Events, OnEvent, PoolEvent
from parallel_exec.pool._feed import Feed
from parallel_exec.pool._future import JobFuture
from parallel_exec.pool._mapping import Errors, Map, check_documents, check_window
from parallel_exec.pool._par_iter import ParIter
from parallel_exec.pool._scheduling.core import Core
from parallel_exec.pool._scheduling.job import Job, frozen
from parallel_exec.pool._stats import PoolStats
from parallel_exec.pool._threads.backend import ThreadCore
from parallel_exec.pool._version import Version


class Pool(Executor):
    """Worker processes that run functions of plugins, each job in a fresh sandbox.

    Guarantees: a job's failure is its own; when a worker dies, only the job that it was running fails, with
    `WorkerCrashed`, and another worker takes its place; Ctrl-C reaches this process only; when this process ends,
    however it does, the workers end too. The program needs no ``if __name__ == "__main__"``: workers do not import it.

    Args:
        max_workers: number of worker processes; by default the number of CPUs that this process may use.
        limits: bounds on each job. Plugins and functions may have limits too; the tightest of each bound wins
            (`Limits.tightest`).
        isolation: ``"process"``: a worker process only ever runs plugins of one domain (``Plugin(domain=...)``), and a
            new process takes its place when another domain's turn comes; None: each job has a fresh sandbox, which is
            the isolation between them.
        max_jobs_per_worker: how many jobs a worker process runs, about, before a new one takes its place; None: no
            limit.
        retries: how often a job is run again when its worker dies. A plugin's own failure is never retried.
        on_event: called with a `PoolEvent` when a worker starts or ends, a job is retried, or a deployment is swapped,
            in whichever thread deals with that; it should be quick. What it raises is logged.
        backend: ``"process"``, or ``"thread"`` for workers that are threads of this process, each with sandboxes of its
            own. Jobs still run in parallel, and limits hold, but for the last of them: nothing can kill a job that
            never checks its deadline, or save this process from a crash of the engine. `isolation` and
            `max_jobs_per_worker` need processes.

    Raises:
        ValueError: a number is out of its range.

    >>> import parallel_exec as px
    >>> double = px.Plugin("function double(x) { return 2 * x }").function("double")
    >>> with px.Pool(2) as pool:
    ...     pool.submit(double, 21).result(), list(pool.map(double, range(5)))
    (42, [0, 2, 4, 6, 8])
    """

    def __init__(
        self,
        max_workers: int | None = None,
        *,
        limits: Limits | None = None,
        isolation: Literal["process"] | None = None,
        max_jobs_per_worker: int | None = None,
        retries: int = 0,
        on_event: OnEvent | None = None,
        backend: Literal["process", "thread"] = "process",
    ) -> None:
        if max_workers is None:
            max_workers = usable_cpus()
        if not isinstance(max_workers, int) or isinstance(max_workers, bool):
            raise TypeError(f"max_workers must be an int or None, not {max_workers!r}")
        if max_workers < 1:
            raise ValueError(f"max_workers must be at least 1 (or None for one per usable CPU); got {max_workers}")
        if limits is not None and not isinstance(limits, Limits):
            raise TypeError(f"limits must be a Limits, not {limits!r}")
        if isolation not in (None, "process"):
            raise ValueError(f"isolation must be 'process' or None; got {isolation!r}")
        for name, number, least in (("max_jobs_per_worker", max_jobs_per_worker or 1, 1), ("retries", retries, 0)):
            if not isinstance(number, int) or isinstance(number, bool) or number < least:
                raise ValueError(f"{name} must be an integer of at least {least}; got {number!r}")
        if backend not in ("process", "thread"):
            raise ValueError(f"backend must be 'process' or 'thread'; got {backend!r}")
        self._max_workers = max_workers
        self._by_domain = isolation == "process"
        if backend == "thread" and (isolation is not None or max_jobs_per_worker is not None):
            raise ValueError("isolation and max_jobs_per_worker need processes: use backend='process'")
        self._core: Backend
        with held():  # so that no Ctrl-C comes between the start of the workers and what ends them
            if backend == "thread":
                self._core = ThreadCore(max_workers, limits or Limits(), Events(on_event))
            else:
                self._core = Core(
                    max_workers,
                    limits or Limits(),
                    by_domain=self._by_domain,
                    jobs_per_worker=max_jobs_per_worker,
                    retries=retries,
                    events=Events(on_event),
                )
            # A pool that is forgotten without shutdown ends once its jobs have.
            self._closer = weakref.finalize(self, self._core.close_soon)
            self._closer.atexit = False

    def submit(self, fn: PluginFunction | DeployedFunction, document: Any, /) -> JobFuture:  # type: ignore[override]
        """Run a plugin's function on a document; return the future of its result.

        What is wrong with the plugin or the document is the future's exception. The future can be cancelled until the
        job is handed to a worker, shortly before its turn.

        Args:
            fn: what ``plugin.function(name)`` or ``pool.deployment(name).function(name)`` gave.
            document: JSON text as ``bytes``, ``bytearray`` or ``memoryview``, or a Python value.

        Raises:
            TypeError: `fn` is not a plugin's function.
            RuntimeError: the pool has been shut down.
            WorkerCrashed: the pool is broken, because its workers die one after another.
        """
        _check_function(fn)
        self._core.check_open()
        future = JobFuture()
        try:
            target = self._core.target(fn)
            if target.version is not None:
                future.version = target.version
            content, kind = prepare(document, fn.input)
        except PexecError as error:
            future.set_exception(error.at(plugin=fn.plugin.name, function=fn.name))
        else:
            try:
                self._core.add([Job(target, frozen(content), kind, fn.output, future=future)])
            except BaseException:  # of a signal's handler: nobody is given the future
                self.stop(future)
                raise
        return future

    def stop(self, future: JobFuture) -> None:
        """Stop a job that `submit` began, as `acall` does when its task is cancelled: one that has not begun is not
        run, and a worker that goes on running it is killed and replaced, at the cost of nobody else's job. The future
        then has been cancelled, or fails with `concurrent.futures.CancelledError`. A job that has ended is left alone.

        >>> import parallel_exec as px
        >>> from concurrent.futures import CancelledError
        >>> endless = px.Plugin("function f() { for (;;); }").function("f")
        >>> with px.Pool(1) as pool:
        ...     future = pool.submit(endless, 0)
        ...     pool.stop(future)
        ...     try:
        ...         future.result()
        ...     except CancelledError:
        ...         print("stopped")
        stopped
        """
        if not future.cancel():
            self._core.cancel(future)

    def map(  # type: ignore[override]
        self,
        fn: PluginFunction | DeployedFunction,
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
        ordered: bool = True,
        errors: Errors = "raise",
        versions: bool = False,
    ) -> Iterator[Any]:
        """Run a plugin's function on every document of an iterable and yield the results, lazily.

        Documents are drawn as results are taken, a bounded number ahead, so that endless iterables run in bounded
        memory. An error says which document failed (``error.document``, from 0).

        Args:
            fn: what ``plugin.function(name)`` or ``pool.deployment(name).function(name)`` gave.
            iterables: one iterable of documents.
            timeout: seconds from now within which each result has to be there.
            chunksize: ignored, and here because `Executor.map` has it: a document's way to a worker costs microseconds,
                and tiny jobs travel together by themselves, as many as they are short.
            buffersize: most documents drawn and not yet yielded as results; by default 16 per worker, and more as far
                as workers would otherwise run out of work, up to 16 MiB of documents and results.
            ordered: whether the results come in the documents' order, or as they are there.
            errors: ``"raise"``: the first error ends the iteration; ``"return"``: a `PexecError` is yielded in place of
                the result of a document that failed.
            versions: yield `Versioned` pairs of results and the versions of the deployment that they are of.

        Raises:
            TypeError: `fn` is not a plugin's function, there is not just one iterable, or that is a text: one document.
            RuntimeError: the pool has been shut down.
            TimeoutError: from the iterator: a result was not there in time.
        """
        _check_function(fn)
        if len(iterables) != 1:
            raise TypeError(f"map takes one iterable of documents; got {len(iterables)}")
        if chunksize < 1:
            raise ValueError(f"chunksize must be at least 1 (it has no effect); got {chunksize}")
        check_documents(iterables[0])
        check_window(buffersize, errors)
        self._core.check_open()
        deadline = None if timeout is None else time.monotonic() + timeout
        run = Map(
            self._core,
            fn,
            iter(iterables[0]),
            workers=self._max_workers,
            size=buffersize,
            ordered=ordered,
            errors=errors,
            versions=versions,
        )
        return run.start(deadline)

    def feed(
        self,
        fn: PluginFunction | DeployedFunction,
        *,
        ordered: bool = True,
        notify: Callable[[], object],
        copy: bool = True,
    ) -> Feed:
        """Return a map whose documents are handed in as they come, for servers and event loops: neither `Feed.put` nor
        `Feed.results` waits.

        Args:
            fn: what ``plugin.function(name)`` or ``pool.deployment(name).function(name)`` gave.
            ordered: whether the results come in the documents' order, or as they are there.
            notify: called by another thread when there may be results; it should be quick.
            copy: whether documents that are no ``bytes`` are copied; if not, they have to stay where they are until
                their results are there. Each is read once, unless it is run again.

        Raises:
            TypeError: `fn` is not a plugin's function.
            RuntimeError: as of `submit`.
            WorkerCrashed: as of `submit`.

        >>> import threading
        >>> import parallel_exec as px
        >>> double = px.Plugin("const double = x => 2 * x").function("double")
        >>> there = threading.Event()
        >>> with px.Pool(1) as pool, pool.feed(double, notify=there.set) as feed:
        ...     feed.put([21])
        ...     _ = there.wait()
        ...     list(feed.results())
        [Fed(document=0, version=None, value=42)]
        """
        _check_function(fn)
        self._core.check_open()
        return Feed(self._core, fn, ordered=ordered, notify=notify, copy=copy)

    def deploy(self, name: str, plugin: AnyPlugin) -> Version:
        """Make a plugin the current version of a deployment, which need not exist yet.

        The swap is atomic: the jobs that were submitted before (and the documents that a map has drawn) run on the old
        version, all others on the new one, and each result tells which (`JobFuture.version`, ``map(versions=True)``).
        The memory of versions that nobody uses any more is given back.

        Args:
            name: any text.
            plugin: what its functions are from now on.

        Raises:
            PluginError: the plugin cannot be loaded; the version before stays current.
            RuntimeError: the pool has been shut down.

        >>> import parallel_exec as px
        >>> with px.Pool(1) as pool:
        ...     _ = pool.deploy("pricing", px.Plugin("const price = n => 10 * n"))
        ...     price = pool.deployment("pricing").function("price")
        ...     before = pool.submit(price, 2)
        ...     _ = pool.deploy("pricing", px.Plugin("const price = n => 9 * n"))
        ...     after = pool.submit(price, 2)
        ...     [(future.version.number, future.result()) for future in (before, after)]
        [(1, 20), (2, 18)]
        """
        if not isinstance(name, str):
            raise TypeError(f"a deployment's name must be a str, not {name!r}")
        if not isinstance(plugin, AnyPlugin):
            raise TypeError(f"only a Plugin or WasmPlugin can be deployed, not {plugin!r}")
        self._core.check_open()
        version = self._core.deployments.deploy(name, plugin)
        self._core.events.note(PoolEvent("deployment swapped", str(version), version=version))
        self._core.events.deliver()
        return version

    def deployment(self, name: str) -> Deployment:
        """Return the deployment of this name.

        Raises:
            LookupError: nothing has been deployed under it.
        """
        return self._core.deployments.find(name)

    def undeploy(self, name: str) -> Version:
        """Take a deployment away. Its jobs so far still run; a `Deployment` that somebody holds goes on as it is, and
        the memory is given back when nobody does.

        Returns:
            the version that was current. If the name is deployed again, its versions are numbered on from there.

        Raises:
            LookupError: nothing is deployed under this name.
        """
        return self._core.deployments.remove(name)

    def warm_up(self, *functions: PluginFunction | DeployedFunction, timeout: float | None = None) -> None:
        """Return when all workers run and are ready to call the functions, so that no job waits for that later.

        With ``isolation="process"`` only the workers are waited for: no process may have two domains' plugins. Threads
        make their sandboxes at their first job nevertheless.

        Args:
            functions: what jobs are going to call.
            timeout: seconds to wait at most.

        Raises:
            PluginError: a plugin cannot be loaded.
            PexecError: a worker cannot make a sandbox.
            TimeoutError: the workers were not ready in time.
            TypeError: as of `submit`.
            RuntimeError: as of `submit`.
            WorkerCrashed: as of `submit`.
        """
        for function in functions:
            _check_function(function)
        self._core.check_open()
        targets = [self._core.target(function) for function in functions]
        self._core.warm_up([] if self._by_domain else targets, timeout)

    def stats(self) -> PoolStats:
        """Return what the pool has done so far: jobs, failures, bytes and times, in all and per worker.

        >>> import parallel_exec as px
        >>> double = px.Plugin("const double = x => 2 * x").function("double")
        >>> with px.Pool(1) as pool:
        ...     _ = list(pool.map(double, range(100)))
        ...     stats = pool.stats()
        >>> stats.jobs, stats.failures, 0 < stats.run.percentile(50) <= stats.run.percentile(99)
        (100, {}, True)
        """
        return self._core.stats()

    def par_iter(self, documents: Iterable[Any], *, buffersize: int | None = None, errors: Errors = "raise") -> ParIter:
        """Return a lazy chain over the documents, to which stages are added: ``pool.par_iter(documents).map(f).sum()``.

        Args:
            documents: what stages begin with, as in `map`.
            buffersize, errors: as in `map`.

        Raises:
            TypeError: an argument is not what it can be.
            ValueError: an argument is not what it can be.
        """
        check_documents(documents)
        check_window(buffersize, errors)
        return ParIter(self, documents, buffersize=buffersize, errors=errors)

    async def acall(self, fn: PluginFunction | DeployedFunction, document: Any, /) -> Any:
        """Run a plugin's function on a document and return its result: `submit` for a coroutine.

        It works in the event loops of asyncio and trio, and so in anyio's. If the waiting task is cancelled, the job is
        stopped: one that has not begun is not run, and a worker that goes on running it is killed and replaced, at the
        cost of nobody else's job.

        Raises:
            PexecError: the job failed.
            TypeError: `fn` is not a plugin's function.
            RuntimeError: the pool has been shut down, or no event loop is running.
        """
        _check_function(fn)
        try:
            await _awaiting.publish(self._core, fn)
        except PexecError as error:
            raise error.at(plugin=fn.plugin.name, function=fn.name) from None
        return await _awaiting.awaited(self._core, self.submit(fn, document))

    def amap(
        self,
        fn: PluginFunction | DeployedFunction,
        documents: Iterable[Any] | AsyncIterable[Any],
        *,
        buffersize: int | None = None,
        ordered: bool = True,
        errors: Errors = "raise",
        versions: bool = False,
    ) -> AsyncGenerator[Any, None]:
        """Run a plugin's function on every document of an iterable and yield the results: `map` for ``async for``.

        Args:
            fn: what ``plugin.function(name)`` or ``pool.deployment(name).function(name)`` gave.
            documents: an iterable, drawn from in the loop's thread, or an asynchronous iterable, drawn from in a task
                of its own.
            buffersize, ordered, errors, versions: as in `map`.

        When the iteration ends early (its generator is closed, or its task cancelled), the jobs in flight are stopped
        as `acall`'s. As any asynchronous generator it is closed at once only by ``aclose()`` (`contextlib.aclosing`).

        Raises:
            TypeError: as of `map`.
            RuntimeError: the pool has been shut down; or, from the iterator, no event loop is running.
        """
        _check_function(fn)
        check_documents(documents)
        check_window(buffersize, errors)
        return _awaiting.amap(
            self._core,
            fn,
            documents,
            workers=self._max_workers,
            size=buffersize,
            ordered=ordered,
            errors=errors,
            versions=versions,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Shut down as ``with`` does, without blocking the loop; when the task was cancelled, at once."""
        if kind is not None and not issubclass(kind, Exception):
            self._core.abort()
        self.shutdown(wait=False)
        await _awaiting.joined(self._core)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002 -- as of Executor
        """Take no more jobs, and end the workers when those there are have been done.

        Args:
            wait: return only when all is done and no process is left; otherwise at once.
            cancel_futures: cancel the jobs that no worker has yet.
        """
        self._closer.detach()  # what a signal's handler raises in a finalizer is lost
        self._core.close(cancel=cancel_futures)
        if wait:
            self._core.join()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        if kind is not None and not issubclass(kind, Exception):
            # Ctrl-C, or the program's end: nobody wants to wait for a queue of jobs now.
            self._core.abort()
        try:
            self.shutdown(wait=True)
        except BaseException:  # Ctrl-C while jobs were waited for
            self._core.abort()
            self._core.join()
            raise
        return None


def _check_function(fn: object) -> None:
    if not isinstance(fn, PluginFunction | DeployedFunction):
        raise TypeError(
            f"a pool runs functions of plugins, not {fn!r}; get one with Plugin(source).function(name) "
            "or Plugin.from_file(path).function(name)"
        )
