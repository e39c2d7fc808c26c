#!/usr/bin/env python3
"""Compare our JSON with QuickJS's own, orjson and V8 (in Node, if it is on PATH), on the same documents.

    python bench/json/compare.py                  all fixtures
    python bench/json/compare.py FILE ...         these documents instead
    python bench/json/compare.py --json out.json  write the figures as well
    python bench/json/compare.py --page docs/benchmarks/json.md

QuickJS's own is called through an engine with exports for it, own.c, so the compiler of scripts/build_guest.py must be
installed.

All contestants are measured in rounds, each in another order, so that drift affects all of them alike; what counts are
the ratios of the medians within one run. `job` is the identity through Sandbox.call_bytes, each in a fresh sandbox:
compare it with parse and stringify together.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import orjson
from contestants import ACTIONS, LIMITS, Contestant, contestants, engines, node_version
from pages import Section, write_page

import parallel_exec as px
from parallel_exec.measure.machine import describe_machine, describe_versions

ROOT = Path(__file__).resolve().parents[2]
FIXTURES = ("polygons.json", "points.json", "features.json", "tiny.ndjson")
TRACK = ROOT / "fixtures" / "track_points.json"
ROUNDS = 12

NOTE = """Microseconds, medians. `ours` and `engine` are our reader and writer and those of QuickJS, in the sandbox.
`job` is the identity through `Sandbox.call_bytes`, each time in a fresh sandbox. The track job is the README's: the
length of a track."""

# Document, action, contestant, the one that it is compared with, and the largest ratio to aim for.
TARGETS = [
    ("track_points.json", "parse", "ours", "V8", 0.70),
    ("polygons.json", "parse", "ours", "V8", 0.45),
    ("points.json", "parse", "ours", "V8", 1.0),
    ("track_points.json", "parse", "ours", "engine", 1 / 8),
    ("polygons.json", "stringify", "ours", "V8", 0.45),
    *((name, "stringify", "ours", "V8", 0.8) for name in ("track_points.json", "points.json", "features.json")),
    *((name, "stringify", "ours", "engine", 1 / 6) for name in ("track_points.json", *FIXTURES[:3])),
    ("polygons.json", "round trip", "job", "V8", 0.45),
    ("track_points.json", "round trip", "job", "V8", 0.7),
    ("track_points.json", "track job", "sandbox", "mini-racer (V8)", 0.9),
    ("track_points.json", "track job", "sandbox", "Python with orjson", 1.15),
]

Medians = dict[str, dict[str, dict[str, float]]]  # document, action, contestant: microseconds


def fixture_paths(scratch: Path) -> list[Path]:
    """Make the fixtures and return their paths; the first line stands for a file with one document per line."""
    spec = importlib.util.spec_from_file_location("make_fixtures", ROOT / "scripts" / "make_fixtures.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["make_fixtures"] = module
    spec.loader.exec_module(module)
    paths = [TRACK]
    for name in FIXTURES:
        path = module.ensure(name)
        if path.suffix == ".ndjson":
            line = scratch / f"{path.stem}.json"
            line.write_bytes(path.read_bytes().partition(b"\n")[0])
            path = line
        paths.append(path)
    return paths


def measure(path: Path, everybody: list[Contestant], seconds: float) -> dict[str, dict[str, float]]:
    """Return the median microseconds of each action and contestant."""
    counts: dict[tuple[str, str], int] = {}
    samples: dict[tuple[str, str], list[float]] = {}
    turns = [(action, contestant) for action in ACTIONS for contestant in everybody]
    for contestant in everybody:
        contestant.load(path)
    for action, contestant in turns:
        times = contestant.times(action, 3)
        if times:
            counts[action, contestant.name] = max(1, min(400, int(seconds * 1e6 / ROUNDS / max(1.0, min(times)))))
            samples[action, contestant.name] = []
    order = random.Random(0)
    for _ in range(ROUNDS):
        order.shuffle(turns)
        for action, contestant in turns:
            if count := counts.get((action, contestant.name)):
                samples[action, contestant.name] += contestant.times(action, count)
    result: dict[str, dict[str, float]] = {action: {} for action in ACTIONS}
    for (action, name), times in samples.items():
        result[action][name] = median(times)
    return result


def track_jobs() -> dict[str, Callable[[], object]]:
    """Return the README's job, done by everything that can do it: a document's bytes in, a number out."""
    from parallel_exec.measure.peers import PEERS, NotForThisWork
    from parallel_exec.measure.strategies import Work

    plugin = px.Plugin.from_file(ROOT / "fixtures" / "track_length.js")
    document = TRACK.read_bytes()
    sandbox = px.Sandbox(plugin, limits=LIMITS)
    jobs: dict[str, Callable[[], object]] = {"sandbox": lambda: sandbox.call("calculate", document)}
    work = Work(plugin=plugin, function="calculate", document=document, limits=LIMITS)
    for peer_class in PEERS:
        if not peer_class.available():
            continue
        peer = peer_class(work)
        try:
            peer.prepare()
            peer.run()
        except NotForThisWork:
            continue
        jobs[peer.name] = peer.run
    return jobs


def measure_track_jobs(seconds: float) -> dict[str, float]:
    """Return the median microseconds of each track job."""
    jobs = track_jobs()
    samples: dict[str, list[float]] = {name: [] for name in jobs}
    names, order = list(jobs), random.Random(0)
    for _ in range(ROUNDS):
        order.shuffle(names)
        for name in names:
            job, until = jobs[name], time.perf_counter() + seconds / ROUNDS
            while (start := time.perf_counter()) < until:
                job()
                samples[name].append((time.perf_counter() - start) * 1e6)
    return {name: median(times) for name, times in samples.items()}


def print_tables(medians: Medians, sizes: dict[str, int]) -> None:
    """Print the medians, and the targets that apply."""
    for document, actions in medians.items():
        print(f"\n{document}, {sizes[document]:,} bytes")
        for action, by_name in actions.items():
            parts = [f"{name} {value:,.1f} us" for name, value in by_name.items()]
            first = next(iter(by_name), None)
            if first is not None:
                mine = by_name[first]
                parts += [f"{first}/{name} {mine / value:.3f}" for name, value in by_name.items() if name != first]
            print(f"  {action:10}  " + "  ".join(parts))
    print("\ntargets")
    for document, action, name, other, most in TARGETS:
        by_name = medians.get(document, {}).get(action, {})
        if name in by_name and other in by_name:
            ratio = by_name[name] / by_name[other]
            verdict = "ok" if ratio <= most else "MISSED"
            print(f"  {document:18} {action:10} {name + ' / ' + other:28} {ratio:6.3f}  at most {most:.3f}  {verdict}")


def cells(times: dict[str, float], names: list[str]) -> list[str]:
    """Return a table's cells for these contestants; empty where one does not take part."""
    return [f"{times[name]:,.1f}" if name in times else "" for name in names]


def write_json_page(path: Path, medians: Medians, sizes: dict[str, int]) -> None:
    """Write the medians as a page."""
    names = list(dict.fromkeys(name for actions in medians.values() for times in actions.values() for name in times))
    write_page(
        path,
        "JSON",
        Section(
            columns=("document", "bytes", "action", *names),
            rows=[
                (document, f"{sizes[document]:,}", action, *cells(times, names))
                for document, actions in medians.items()
                for action, times in actions.items()
                if times
            ],
            notes=[NOTE, *([f"V8 is that of Node {version}."] if (version := node_version()) else [])],
        ),
    )


def main() -> int:
    """Run the command line and return its exit status."""
    parser = argparse.ArgumentParser(description="Compare our JSON with the engine's own, orjson and V8.")
    parser.add_argument("documents", nargs="*", type=Path, metavar="DOCUMENT", help="documents instead of the fixtures")
    parser.add_argument(
        "--seconds", type=float, default=1.0, help="for each contestant and action on each document (1)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE; - is standard output")
    parser.add_argument("--page", type=Path, metavar="FILE", help="write a page of the documentation")
    options = parser.parse_args()
    medians: Medians = {}
    sizes: dict[str, int] = {}
    try:
        everybody = contestants()
    except engines.build_guest.BuildError as error:
        print(f"compare: {error}", file=sys.stderr)
        return 1
    try:
        with tempfile.TemporaryDirectory() as scratch:
            for path in options.documents or fixture_paths(Path(scratch)):
                orjson.loads(path.read_bytes())  # a clear error if it is not JSON
                medians[path.name] = measure(path, everybody, options.seconds)
                sizes[path.name] = path.stat().st_size
    finally:
        for contestant in everybody:
            contestant.close()
    if not options.documents:
        medians[TRACK.name]["track job"] = measure_track_jobs(4 * options.seconds)
    if options.json is None or str(options.json) != "-":
        print_tables(medians, sizes)
    if options.page is not None:
        write_json_page(options.page, medians, sizes)
    if options.json is not None:
        record = {"machine": describe_machine(), "versions": describe_versions(), "bytes": sizes, "median_us": medians}
        text = json.dumps(record, indent=2) + "\n"
        if str(options.json) == "-":
            sys.stdout.write(text)
        else:
            options.json.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
