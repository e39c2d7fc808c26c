"""Bounds on what lazy values (byte spans until they are touched) could win and would lose.

    python bench/json/lazy.py [DOCUMENT ...]

compiles the engine with lazy.c beside it (the compiler of scripts/build_guest.py must be installed) and measures, for
each document, our reader R and writer W, a pass S that validates the document as strictly as the reader and makes
nothing, the same with the check K that every number is written as JSON.stringify would, and a copy C of the text. Then

    read some       R / S                  at most, as if what is read cost nothing
    pass through    (R + W) / (S + K + C)  at most, as if neither white space nor escapes nor double keys existed
    touch all       (S + R + W) / (R + W)  at least, as if finding the parts again were free

are times by which a lazy reader could be faster on the first two, and slower on the last.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from compare import ROOT, ROUNDS, fixture_paths
from contestants import IDENTITY, LIMITS

import parallel_exec as px
from parallel_exec.sandbox._engine import engine
from parallel_exec.sandbox._js.mailbox import Status

sys.path.insert(0, str(ROOT / "scripts"))
import build_guest

LAZY = Path(__file__).with_name("lazy.c")
FORMS = b' {"a\\u00e9": [1, -2.5e+3, 0.125, true, false, null, "caf\xc3\xa9 \xf0\x9f\x98\x80\\n"], "b": {}} '


def build() -> Path:
    """Compile the engine with lazy.c, unless that is done already, and return the folder that holds it."""
    inputs = build_guest.inputs_digest(build_guest.GUEST) + hashlib.sha256(LAZY.read_bytes()).hexdigest()
    folder = build_guest.cache_root() / "bench-json-lazy" / hashlib.sha256(inputs.encode()).hexdigest()
    if not (folder / "engine.wasm").exists():
        wasm = build_guest.compile_guest(build_guest.GUEST, [LAZY, build_guest.GUEST / "regexp.c"])
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "engine.wasm").write_bytes(wasm)
    return folder


class Bench:
    """One sandbox whose exports are timed one at a time."""

    def __init__(self) -> None:
        self._sandbox = px.Sandbox(IDENTITY, limits=LIMITS)

    def run(self, document: bytes, *exports: str) -> tuple[dict[str, float], list[tuple[int, int]]]:
        """Call exports on a document and reset; return the microseconds, and status and error offset, of each."""
        sandbox = self._sandbox
        instance = sandbox._runner._instance or sandbox._runner._open()
        image = sandbox._runner._image
        end = sandbox._runner._writer.write(instance, "identity", document, 0, image.input_ptr)
        taken: dict[str, float] = {}
        replies: list[tuple[int, int]] = []
        high_water, stack_low = 0, 1 << 32
        for export in exports:
            call = instance.bind(export)
            start = time.perf_counter()
            call()
            taken[export] = (time.perf_counter() - start) * 1e6
            reply = instance.reply()
            replies.append((reply.status, reply.error_offset))
            high_water, stack_low = max(high_water, reply.high_water), min(stack_low, reply.stack_low)
        image.plan.apply(instance, min(max(high_water, end), instance.size()), stack_low)
        return taken, replies

    def times(self, document: bytes) -> dict[str, float]:
        """Return the microseconds of R, W, S, SK and C, each run once."""
        whole, _ = self.run(document, "engine_read", "engine_invoke", "engine_write")
        skip, _ = self.run(document, "engine_skip")
        check, _ = self.run(document, "engine_skip_canonical", "engine_copy")
        return {
            "R": whole["engine_read"],
            "W": whole["engine_write"],
            "S": skip["engine_skip"],
            "SK": check["engine_skip_canonical"],
            "C": check["engine_copy"],
        }


def check_strictness(bench: Bench, count: int) -> None:
    """Raise AssertionError if the pass S takes what the reader refuses, or the reverse, on damaged documents."""
    source = random.Random(0)
    bad = 0
    for _ in range(count):
        text = bytearray(FORMS)
        at = source.randrange(len(text))
        what = source.randrange(4)
        if what == 0:
            text[at] = source.choice(b' \n"\\{}[]:,-+.0159eEutfnl/\x00\x1f\x7f\x80\xbf\xc3\xe2\xed\xf0\xff')
        elif what == 1:
            del text[at]
        elif what == 2:
            text.insert(at, text[at])
        else:
            del text[at:]
        _, [(status, _)] = bench.run(bytes(text), "engine_read")
        _, [(_, refused)] = bench.run(bytes(text), "engine_skip")
        assert (status == Status.OK) == (not refused), f"the reader and the pass differ on {bytes(text)!r}"
        bad += refused
    assert 0 < bad < count, "the damage must leave some documents whole and some not"


def main() -> int:
    """Run the command line and return its exit status."""
    parser = argparse.ArgumentParser(description="Measure bounds on what lazy values could win and would lose.")
    parser.add_argument("documents", nargs="*", type=Path, metavar="DOCUMENT", help="documents instead of the fixtures")
    parser.add_argument("--seconds", type=float, default=2.0, help="for each document (2)")
    options = parser.parse_args()
    try:
        engine.GUEST = build()
    except build_guest.BuildError as error:
        print(f"lazy: {error}", file=sys.stderr)
        return 1
    bench = Bench()
    check_strictness(bench, 5000)
    heads = "".join(f"{name:>9}" for name in ("R", "W", "S", "K", "C"))
    print(f"{'microseconds':23}{heads}  read some  pass through  touch all")
    with tempfile.TemporaryDirectory() as scratch:
        for path in options.documents or fixture_paths(Path(scratch))[:-1]:
            document = path.read_bytes()
            bench.times(document)  # the first run faults memory in
            samples: list[dict[str, float]] = []
            until = time.perf_counter() + options.seconds
            while time.perf_counter() < until or len(samples) < ROUNDS:
                samples.append(bench.times(document))
            r, w, s, sk, c = (median(sample[name] for sample in samples) for name in ("R", "W", "S", "SK", "C"))
            print(
                f"{path.name:23}"
                + "".join(f"{value:9,.1f}" for value in (r, w, s, sk - s, c))
                + f"{r / s:11.2f}{(r + w) / (sk + c):14.2f}{(s + r + w) / (r + w):11.2f}"
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
