"""One instance of the engine with a plugin in place, whose exports benchmarks time one by one."""

from __future__ import annotations

import time

import parallel_exec as px
from parallel_exec.sandbox._js.driver import Driver
from parallel_exec.sandbox._js.mailbox import INPUT_PADDING, Reply


class Guest:
    """An instance of the engine, reset after each job as a sandbox resets its own."""

    def __init__(self, image: px.MemoryImage, limits: px.Limits) -> None:
        self._image = image
        self._driver = Driver.open(limits)
        image.fill(self._driver.instance)

    def run(self, function: str, document: bytes, *exports: str) -> list[tuple[float, Reply]]:
        """Call exports on a document; return the microseconds and the reply of each, and reset, untimed."""
        instance = self._driver.instance
        self._driver.put(document, name=function)
        calls = [instance.bind(export) for export in exports]
        taken: list[tuple[float, Reply]] = []
        for call in calls:
            start = time.perf_counter()
            call()
            taken.append(((time.perf_counter() - start) * 1e6, instance.reply()))
        used = max(self._image.input_ptr + len(document) + INPUT_PADDING, *(reply.high_water for _, reply in taken))
        lowest = min(reply.stack_low for _, reply in taken)
        self._image.plan.apply(instance, min(used, instance.size()), lowest)
        return taken

    def close(self) -> None:
        """Release the instance."""
        self._driver.close()
