"""Memory of idle workers: `python bench/pool/memory.py [WORKERS]` (Linux).

PSS counts a page that several processes map in equal parts; what is a worker's own is private. Beside them stands a
process that has imported wasmtime and orjson and does nothing else.
"""

from __future__ import annotations

import subprocess
import sys

import parallel_exec as px
from parallel_exec.measure.fixture import document_path, plugin_path

BARE = "import sys, wasmtime, orjson; print(flush=True); sys.stdin.read()"
FIELDS = ("Rss", "Pss", "Private_Dirty", "Shared_Clean", "Shared_Dirty")


def rollup(pid: int) -> dict[str, float]:
    """What the kernel says of a process's memory, in MiB."""
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as text:
        found = dict(line.split(":") for line in text if ":" in line.split()[0])
    return {field: int(found[field].split()[0]) / 1024 for field in FIELDS}


def show(name: str, memory: dict[str, float]) -> None:
    print(f"{name:34}", *(f"{memory[field]:10.1f}" for field in FIELDS))


def mean(pids: list[int]) -> dict[str, float]:
    all_of_them = [rollup(pid) for pid in pids]
    return {field: sum(each[field] for each in all_of_them) / len(pids) for field in FIELDS}


def main() -> None:
    workers = int(sys.argv[1]) if len(sys.argv) > 1 else 2
    calculate = px.Plugin.from_file(plugin_path()).function("calculate")
    document = document_path().read_bytes()
    print(f"{workers} workers; MiB a process".ljust(34), *(f"{field:>10}" for field in FIELDS))
    bare = subprocess.Popen([sys.executable, "-c", BARE], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert bare.stdout is not None
    bare.stdout.readline()
    alone = rollup(bare.pid)
    show("bare: imports wasmtime and orjson", alone)
    bare.communicate()
    with px.Pool(workers) as pool:
        pool.warm_up()
        pool.submit(px.Plugin("function f() {}").function("f"), 0).result()
        pids = [worker.pid for worker in pool.stats().workers if worker.pid is not None]
        fresh = mean(pids)
        show("worker, without a plugin", fresh)
        pool.warm_up(calculate)
        show("worker, with the plugin ready", mean(pids))
        list(pool.map(calculate, [document] * 200 * workers))
        used = mean(pids)
        show("worker, idle after 200 jobs", used)
    print(f"idle worker / bare (PSS): {fresh['Pss'] / alone['Pss']:.2f} new, {used['Pss'] / alone['Pss']:.2f} used")


if __name__ == "__main__":
    main()
