"""The client's books of a stream, which Ctrl-C may reach at any moment."""

from __future__ import annotations

import itertools
from functools import partial

from parallel_exec.service._client import _Feeder
from tests.interrupts import CtrlC

# ruff: noqa: SLF001 - the books are inside


def test_no_interruption_tears_them() -> None:
    # Without a server: gRPC's own locks, unlike ours, may stay taken after Ctrl-C.
    ctrl_c = CtrlC(0.0002)
    feeder = _Feeder(itertools.repeat(b"1"), 64, None)
    requests = feeder.requests({})
    next(requests)
    first = 0
    for _ in range(1000):
        documents = range(first, first + len(next(requests).documents))
        first = documents.stop
        ctrl_c.during(partial(feeder.ended, documents))
        with feeder._lock:
            left = feeder._ahead.keys() & documents
            assert left in (set(), set(documents))
            assert feeder._ahead_bytes == len(feeder._ahead)
        if left:
            feeder.ended(documents)
    assert ctrl_c.interrupted > 100
    feeder.stop()
    feeder._thread.join()
