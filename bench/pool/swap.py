"""What swapping a deployed plugin costs: `python bench/pool/swap.py`.

Rounds of a map with a swap before each, interleaved with rounds without; both plugins are known, as when a deployment
goes back and forth. Beside that the time of `deploy` itself, for a plugin that is known and for a new one.
"""

from __future__ import annotations

import statistics
import time

import parallel_exec as px

ROUNDS = 400
DOCUMENTS = 60


def plugin(says: str) -> px.Plugin:
    return px.Plugin(f"function f(x) {{ return ['{says}', x] }}", name=f"{says}.js")


def main() -> None:
    known = [plugin("one"), plugin("two")]
    with px.Pool() as pool:
        for each in known:
            pool.deploy("d", each)
            function = pool.deployment("d").function("f")
            pool.warm_up(function)
        rounds: dict[bool, list[float]] = {True: [], False: []}
        deploys = []
        for number in range(2 * ROUNDS):
            swaps = number % 2 == 1
            start = time.perf_counter()
            if swaps:
                says = known[number // 2 % 2]
                pool.deploy("d", says)
                deploys.append(time.perf_counter() - start)
            results = list(pool.map(function, range(DOCUMENTS), versions=True))
            rounds[swaps].append(time.perf_counter() - start)
            for version, (said, _) in results:
                assert version is not None
                assert version.plugin.name == f"{said}.js"
        fresh = []
        for number in range(50):
            new = plugin(f"new{number}")
            start = time.perf_counter()
            pool.deploy("d", new)
            fresh.append(time.perf_counter() - start)
    added = statistics.median(rounds[True]) - statistics.median(rounds[False])
    print(f"added per swap: {added * 1e3:.2f} ms, to rounds of {statistics.median(rounds[False]) * 1e3:.2f} ms")
    print(f"deploy, known plugin: {statistics.median(deploys) * 1e6:.0f} us")
    print(f"deploy, new plugin:   {statistics.median(fresh) * 1e3:.2f} ms")


if __name__ == "__main__":
    main()
