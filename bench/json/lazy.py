"""Bounds on what lazy values (spans of bytes until they are touched) could gain and would cost.

    python bench/json/lazy.py [DOCUMENT ...]

compiles the engine with lazy.c (the compiler of scripts/build_guest.py must be installed) and measures, for each
document: our reader R and writer W; a pass S that validates the document as strictly as the reader but makes no values;
the same with the check K that every number is written as JSON.stringify would write it; and a copy C of the text. Then

    read some       R / S                  an upper bound, as if reading the parts in use cost nothing
    pass through    (R + W) / (S + K + C)  an upper bound, as if white space, escapes and duplicate keys did not exist
    touch all       (S + R + W) / (R + W)  a lower bound, as if finding the parts again were free

are the factors by which a lazy reader could be faster (the first two) and slower (the last).
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from compare import ROUNDS, fixture_paths
from contestants import IDENTITY, LIMITS, engines
from guest import Guest

import parallel_exec as px
from parallel_exec.sandbox._js.mailbox import Status

LAZY = Path(__file__).with_name("lazy.c")
FORMS = b' {"a\\u00e9": [1, -2.5e+3, 0.125, true, false, null, "caf\xc3\xa9 \xf0\x9f\x98\x80\\n"], "b": {}} '


def times(guest: Guest, document: bytes) -> dict[str, float]:
    """Return the microseconds of R, W, S, SK and C, each run once."""
    (read, _), _, (write, _) = guest.run("identity", document, "engine_read", "engine_invoke", "engine_write")
    ((skip, _),) = guest.run("identity", document, "engine_skip")
    (check, _), (copy, _) = guest.run("identity", document, "engine_skip_canonical", "engine_copy")
    return {"R": read, "W": write, "S": skip, "SK": check, "C": copy}


def check_strictness(guest: Guest, count: int) -> None:
    """Raise AssertionError if the pass S and the reader disagree on whether a damaged document is valid."""
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
        ((_, reply),) = guest.run("identity", bytes(text), "engine_read")
        ((_, skipped),) = guest.run("identity", bytes(text), "engine_skip")
        refused = skipped.error_offset
        assert (reply.status == Status.OK) == (not refused), f"the reader and the pass differ on {bytes(text)!r}"
        bad += bool(refused)
    assert 0 < bad < count, "the damage must leave some documents whole and some not"


def main() -> int:
    """Run the command line and return its exit status."""
    parser = argparse.ArgumentParser(description="Measure bounds on what lazy values could gain and would cost.")
    parser.add_argument("documents", nargs="*", type=Path, metavar="DOCUMENT", help="documents instead of the fixtures")
    parser.add_argument("--seconds", type=float, default=2.0, help="for each document (2)")
    options = parser.parse_args()
    try:
        with engines.instead(engines.build(LAZY)):
            guest = Guest(px.MemoryImage.capture(IDENTITY.source, name=IDENTITY.name), LIMITS)
    except engines.build_guest.BuildError as error:
        print(f"lazy: {error}", file=sys.stderr)
        return 1
    check_strictness(guest, 5000)
    heads = "".join(f"{name:>9}" for name in ("R", "W", "S", "K", "C"))
    print(f"{'microseconds':23}{heads}  read some  pass through  touch all")
    with tempfile.TemporaryDirectory() as scratch:
        for path in options.documents or fixture_paths(Path(scratch))[:-1]:
            document = path.read_bytes()
            times(guest, document)  # the first run faults memory in
            samples: list[dict[str, float]] = []
            until = time.perf_counter() + options.seconds
            while time.perf_counter() < until or len(samples) < ROUNDS:
                samples.append(times(guest, document))
            r, w, s, sk, c = (median(sample[name] for sample in samples) for name in ("R", "W", "S", "SK", "C"))
            print(
                f"{path.name:23}"
                + "".join(f"{value:9,.1f}" for value in (r, w, s, sk - s, c))
                + f"{r / s:11.2f}{(r + w) / (sk + c):14.2f}{(s + r + w) / (r + w):11.2f}"
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
