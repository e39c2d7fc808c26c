"""Functions as a pool of processes knows them: what workers need for their jobs, and what these have cost so far."""

from __future__ import annotations

from parallel_exec.plugins import PluginFunction
from parallel_exec.pool._scheduling.job import Target
from parallel_exec.pool._transport.channel import Shared
from parallel_exec.pool._transport.frames import MOST_BATCHED
from parallel_exec.pool._version import Version

# A batch of tiny jobs is to take a worker about so long: much longer than a batch's own costs (some 20 us), and short
# enough that waiting for the rest goes unnoticed.
BATCH_NS = 400_000
# Jobs that take less may leave their results unannounced until the next one's (README: quiet frames).
QUIET_NS = 1_000_000
_SMOOTHING = 8


class ProcessTarget(Target):
    """A function as a pool of processes knows it: where its memory image and its limits are published, and what its
    jobs have cost.

    Attributes:
        image, limits: numbers under which workers know the plugin's memory image and the limits.
        needs: both.
        shared: what workers are given before its first job.
        domain: whose plugin it is, if domains are kept apart.
        name: the function's name as it is sent.
        patience_s: seconds after its start at which a job's worker is killed; infinite for never.
        batch: most jobs that may travel together.
        quiet: whether its jobs are so short that not every result needs to be announced.
    """

    __slots__ = (
        "_batches",
        "_cost_ns",
        "batch",
        "domain",
        "image",
        "limits",
        "name",
        "needs",
        "patience_s",
        "quiet",
        "shared",
    )

    def __init__(
        self,
        shared: tuple[Shared, ...],
        function: PluginFunction,
        patience_s: float,
        domain: str | None,
        version: Version | None = None,
    ) -> None:
        super().__init__(function, version)
        self.shared = shared
        self.image = shared[0].ident
        self.limits = shared[-1].ident
        self.needs = self.image, self.limits
        self.name = function.name.encode("utf-8", "surrogatepass")
        self.patience_s = patience_s
        self.domain = domain
        self.batch = 1
        self.quiet = False
        # When a worker dies, what it did of a batch is done again, which host functions would show.
        self._batches = not function.plugin.host
        self._cost_ns = 0

    def ran(self, run_ns: int) -> None:
        """Learn from a job that took so many nanoseconds."""
        known = self._cost_ns
        self._cost_ns = cost = known + (run_ns - known) // _SMOOTHING if known else run_ns
        if self._batches:
            fit = BATCH_NS // (cost + 1)
            self.batch = MOST_BATCHED if fit > MOST_BATCHED else fit or 1
        self.quiet = cost < QUIET_NS
