"""What a reset costs: its share of a job, and a small one beside a plain copy of the image's pages.

    python bench/reset.py

runs, in turns, the README's job and a job on a document of 100 bytes, each on the exports that a sandbox calls, with
the reset timed apart; and a copy of the image's non-zero pages, as one block, into memory that is resident.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import parallel_exec as px
from parallel_exec.sandbox._js.driver import Driver

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures"
ROUNDS = 2000


def job_and_reset(image: px.MemoryImage, function: str, document: bytes) -> Callable[[], tuple[float, float]]:
    """Return what runs one job and returns the microseconds of the whole, reset included, and of the reset."""
    driver = Driver.open(px.Limits(time_s=None))
    image.fill(driver.instance)

    def run() -> tuple[float, float]:
        start = time.perf_counter()
        driver.put(document, name=function)
        reply = driver.call("engine_job")
        driver.output()
        middle = time.perf_counter()
        image.plan.apply(driver.instance, reply.high_water, reply.stack_low)
        end = time.perf_counter()
        return (end - start) * 1e6, (end - middle) * 1e6

    return run


def page_copy(image: px.MemoryImage) -> Callable[[], float]:
    """Return what copies the image's non-zero pages and returns the microseconds."""
    pages = b"".join(content for _address, content in image.runs)
    target = memoryview(bytearray(len(pages)))

    def run() -> float:
        start = time.perf_counter()
        target[:] = pages
        return (time.perf_counter() - start) * 1e6

    return run


def main() -> None:
    track = px.Plugin.from_file(FIXTURES / "track_length.js").image()
    identity = px.Plugin("function identity(document) { return document }", name="identity.js").image()
    document = (FIXTURES / "track_points.json").read_bytes()
    small = b'{"text":"' + b"x" * 89 + b'"}'
    big_job, small_job = job_and_reset(track, "calculate", document), job_and_reset(identity, "identity", small)
    copy = page_copy(identity)
    samples = [(*big_job(), *small_job(), copy()) for _ in range(ROUNDS)]
    job, reset, _, small_reset, copied = map(median, zip(*samples, strict=True))
    print(f"job on {len(document):,} bytes {job:8.1f} us   its reset {reset:6.1f} us   {reset / job:.1%} of the job")
    kib = sum(len(content) for _address, content in identity.runs) >> 10
    print(f"reset after {len(small)} bytes {small_reset:6.1f} us   copy of {kib} KiB {copied:6.1f} us", end="")
    print(f"   {small_reset / copied:.2f} times")


if __name__ == "__main__":
    main()
