"""What swapping a deployed plugin costs: `python bench/pool/swap.py`.

Maps over thousands of documents, during every second of which the deployment is swapped again and again while documents
are drawn, so that the workers have work at any time; both plugins are known, as when a deployment goes back and forth.
Every result is checked to be of the version that its document was drawn under. Beside that the time of `deploy` itself,
for a plugin that is known and for a new one.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator

import parallel_exec as px

SWAPS = 100  # during a map
MAPS = 10  # with swaps, and as many without
DOCUMENTS = 60  # from one swap to the next
STEPS = 2000  # of a job, some 50 us


def plugin(says: str) -> px.Plugin:
    loop = f"let n = 0; for (let i = 0; i < {STEPS}; i++) n = (n + i) % 7;"
    return px.Plugin(f"function f(x) {{ {loop} return ['{says}', x] }}", name=f"{says}.js")


def main() -> None:
    known = [plugin("one"), plugin("two")]
    deploys, fresh = [], []
    maps: dict[bool, list[float]] = {True: [], False: []}
    with px.Pool() as pool:

        def deploy(new: px.Plugin, taken: list[float]) -> int:
            start = time.perf_counter()
            version = pool.deploy("d", new)
            taken.append(time.perf_counter() - start)
            return version.number

        def documents(drawn: list[int], *, swaps: bool) -> Iterator[int]:
            number = pool.deployment("d").version.number
            for document in range(SWAPS * DOCUMENTS):
                if swaps and document % DOCUMENTS == 0:
                    number = deploy(known[document // DOCUMENTS % 2], deploys)
                drawn.append(number)
                yield document

        for each in known:
            pool.deploy("d", each)
            function = pool.deployment("d").function("f")
            pool.warm_up(function)
        for turn in range(2 * MAPS):
            drawn: list[int] = []
            start = time.perf_counter()
            results = list(pool.map(function, documents(drawn, swaps=turn % 2 == 1), versions=True))
            maps[turn % 2 == 1].append(time.perf_counter() - start)
            for document, (version, (said, given)) in enumerate(results):
                assert version is not None and version.number == drawn[document] and given == document
                assert version.plugin.name == f"{said}.js"
        for number in range(50):
            deploy(plugin(f"new{number}"), fresh)
    without = statistics.median(maps[False]) / SWAPS
    added = statistics.median(maps[True]) / SWAPS - without
    print(f"{MAPS * SWAPS} swaps, {2 * MAPS * SWAPS * DOCUMENTS:,} results, each of the version it was drawn under")
    print(f"added per swap: {added * 1e3:.2f} ms, to {without * 1e3:.2f} ms for the {DOCUMENTS} documents in between")
    print(f"deploy, known plugin: {statistics.median(deploys) * 1e6:.0f} us")
    print(f"deploy, new plugin:   {statistics.median(fresh) * 1e3:.2f} ms")


if __name__ == "__main__":
    main()
