"""What a reset costs: its share of a job, and after a small job compared with a plain copy of the image's pages.

    python bench/reset.py [--page docs/benchmarks/reset.md]

runs, in turn, the README's job and a job on a document of 100 bytes, each through the exports that a sandbox calls,
with the reset timed separately; and a copy of the image's non-zero pages, as one block, into resident memory.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from pages import Section, write_page

import parallel_exec as px
from parallel_exec.sandbox._js.driver import Driver

NOTE = """Medians; a job's time includes its reset. The copy is of the image's non-zero pages, as one block, into
resident memory."""
FIXTURES = Path(__file__).resolve().parent.parent / "fixtures"


def job_and_reset(image: px.MemoryImage, function: str, document: bytes) -> Callable[[], tuple[float, float]]:
    """Return a function that runs one job, and returns the microseconds of job and reset together, and of the reset."""
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
    """Return a function that copies the image's non-zero pages, and returns the microseconds."""
    pages = b"".join(content for _address, content in image.runs)
    target = memoryview(bytearray(len(pages)))

    def run() -> float:
        start = time.perf_counter()
        target[:] = pages
        return (time.perf_counter() - start) * 1e6

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure what a reset costs.")
    parser.add_argument("--rounds", type=int, default=2000, help="jobs of each kind (2000)")
    parser.add_argument("--page", type=Path, metavar="FILE", help="write a page of the documentation")
    options = parser.parse_args()
    track = px.Plugin.from_file(FIXTURES / "track_length.js").image()
    identity = px.Plugin("function identity(document) { return document }", name="identity.js").image()
    document = (FIXTURES / "track_points.json").read_bytes()
    small = b'{"text":"' + b"x" * 89 + b'"}'
    big_job, small_job = job_and_reset(track, "calculate", document), job_and_reset(identity, "identity", small)
    copy = page_copy(identity)
    samples = [(*big_job(), *small_job(), copy()) for _ in range(options.rounds)]
    job, reset, tiny, tiny_reset, copied = map(median, zip(*samples, strict=True))
    kib = sum(len(content) for _address, content in identity.runs) >> 10
    rows = [
        (f"job on {len(document):,} bytes", f"{job:.1f}", f"{reset:.1f}", f"{reset / job:.1%}"),
        (f"job on {len(small)} bytes", f"{tiny:.1f}", f"{tiny_reset:.1f}", f"{tiny_reset / tiny:.1%}"),
        (f"copy of {kib} KiB", f"{copied:.1f}", "", ""),
    ]
    for row in rows:
        print("{:24}{:>9} us   reset {:>7} us {:>7}".format(*row))
    print(f"the reset after {len(small)} bytes takes {tiny_reset / copied:.2f} times as long as the copy")
    if options.page is not None:
        write_page(
            options.page,
            "Reset",
            Section(
                columns=("what", "us", "reset, us", "share of the job"),
                rows=rows,
                notes=[
                    NOTE,
                    f"The reset after {len(small)} bytes takes {tiny_reset / copied:.2f} times as long as the copy.",
                ],
            ),
        )


if __name__ == "__main__":
    main()
