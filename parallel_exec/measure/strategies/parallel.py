"""As `image`, in the worker processes of a pool: jobs overlap, so what counts is how many get done per second."""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING

from parallel_exec.measure.strategies.image import Image
from parallel_exec.measure.strategies.strategy import Stage, Strategy, Work

if TYPE_CHECKING:
    from parallel_exec.pool import Pool


class Parallel(Strategy):
    name = "parallel"
    cached = "as image, in every worker"
    batched = True

    def __init__(self, work: Work) -> None:
        super().__init__(work)
        self._function = work.plugin.function(work.function, output="bytes")
        self._pool: Pool | None = None
        self._here: Image | None = None

    def prepare(self) -> None:
        from parallel_exec.pool import Pool

        self._pool = Pool(max_workers=self.work.workers, limits=self.work.limits)

    def run(self) -> bytes:
        """Run one job alone: there and back, with nothing else in flight."""
        assert self._pool is not None, "prepare() comes first"
        result = self._pool.submit(self._function, self.work.document).result()
        assert isinstance(result, bytes)
        return result

    def run_many(self, jobs: int) -> list[bytes]:
        assert self._pool is not None, "prepare() comes first"
        return list(self._pool.map(self._function, itertools.repeat(self.work.document, jobs)))

    def stages(self) -> dict[Stage, float]:
        """The stages of a job in this process, and as transport what a job alone in the pool takes longer than one
        here.
        """
        if self._here is None:
            self._here = Image(self.work)
            self._here.prepare()
            self.run_many(2 * self.work.workers)  # each worker has its sandbox before a round trip is timed
        start = time.perf_counter()
        self._here.run()
        here = time.perf_counter()
        self.run()
        there = time.perf_counter()
        return self._here.stages() | {Stage.TRANSPORT: (there - here) - (here - start)}

    def close(self) -> None:
        if self._here is not None:
            self._here.close()
            self._here = None
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None
