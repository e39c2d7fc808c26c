"""What limits cost a good job: the same jobs with the default limits, without, and with each costlier one, interleaved.

    python bench/limits.py [--seconds 10]

Off means no deadline: what is left, the looks at the deadline that are compiled into the engine, cannot be switched
off. With ``--guest FOLDER`` an engine compiled without them is a contestant, too
(``python scripts/build_guest.py --no-polls FOLDER``).
"""

from __future__ import annotations

import argparse
import platform
import random
import statistics
import time
from pathlib import Path

from engines import sandbox_of

import parallel_exec as px
from parallel_exec.sandbox._engine.version import wasmtime_version

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures"
STRINGS = """
function words(n) {
    const seen = {};
    let text = "";
    for (let i = 0; i < n; i++) {
        const key = "k" + i % 97;
        seen[key] = (seen[key] ?? 0) + 1;
        text = text.slice(0, 50) + key.toUpperCase();
    }
    return [Object.keys(seen).sort().join(), text.split("K").map(part => part.length).filter(Boolean)];
}
"""
OBJECTS = """
function sort(n) {
    const list = Array.from({length: n}, (_, i) => ({id: i, value: Math.sin(i)})).sort((a, b) => a.value - b.value);
    const total = list.reduce((sum, {id, value}) => sum + id * value, 0);
    return [total, list.map(item => item.id).indexOf(3), [...list].reverse().slice(3).flatMap(item => [item.value])];
}
"""
PATTERNS = r"""
function match(n) {
    let count = 0;
    for (let i = 0; i < n; i++) {
        count += ("2024-01-0" + i % 9).replace(/(\d+)-(\d+)/g, "$2/$1").length;
        count += /^\w+@\w+\.com$/.test("user" + i + "@example.com");
    }
    return count;
}
"""

LIMITS = {
    "default": px.Limits(),
    "off": px.Limits(time_s=None),
    "cpu": px.Limits(clock="cpu"),
    "epoch": px.Limits(interrupt="epoch"),
    "fuel": px.Limits(fuel=1 << 60),
    "fuel, epoch": px.Limits(fuel=1 << 60, interrupt="epoch"),
}


def works() -> dict[str, tuple[px.Plugin, str, bytes]]:
    """The jobs: plugin, function and document."""
    track = px.Plugin.from_file(FIXTURES / "track_length.js")
    return {
        "track": (track, "calculate", (FIXTURES / "track_points.json").read_bytes()),
        "strings": (px.Plugin(STRINGS), "words", b"1500"),
        "objects": (px.Plugin(OBJECTS), "sort", b"300"),
        "patterns": (px.Plugin(PATTERNS), "match", b"300"),
        "identity": (px.Plugin("const same = x => x"), "same", b'{"a":1}'),
    }


def measure(sandboxes: dict[str, px.Sandbox], function: str, document: bytes, seconds: float) -> dict[str, list[float]]:
    """Time each sandbox's job, in random rounds."""
    times: dict[str, list[float]] = {name: [] for name in sandboxes}
    answers = {sandbox.call_bytes(function, document) for sandbox in sandboxes.values() for _ in range(20)}
    if len(answers) != 1:
        raise SystemExit(f"{function}: the answers differ")
    order = list(sandboxes)
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        random.shuffle(order)
        for name in order:
            job = sandboxes[name].call_bytes
            started = time.perf_counter()
            job(function, document)
            times[name].append(time.perf_counter() - started)
    return times


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description="Compare good jobs under the default limits, without, and with others."
    )
    parser.add_argument("--seconds", type=float, default=10.0, help="for each kind of job (10)")
    parser.add_argument("--guest", type=Path, help="a folder with another engine.wasm to compare with, as 'other'")
    options = parser.parse_args()
    print(f"CPython {platform.python_version()}, wasmtime {wasmtime_version()}, {cpu_name()}")
    names = [*LIMITS, *(["other"] if options.guest else [])]
    print(f"{'':10}{'off, us':>9}" + "".join(f"{name:>12}" for name in names if name != "off"))
    for work, (plugin, function, document) in works().items():
        sandboxes = {name: px.Sandbox(plugin, limits=limits) for name, limits in LIMITS.items()}
        if options.guest:
            sandboxes["other"] = sandbox_of(options.guest, plugin, LIMITS["off"])
        times = measure(sandboxes, function, document, options.seconds)
        base = statistics.median(times["off"])
        ratios = (statistics.median(times[name]) / base for name in names if name != "off")
        print(f"{work:10}{base * 1e6:9.1f}" + "".join(f"{ratio:12.3f}" for ratio in ratios), flush=True)
        for sandbox in sandboxes.values():
            sandbox.close()


def cpu_name() -> str:
    """The processor, as the system names it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.processor())


if __name__ == "__main__":
    main()
