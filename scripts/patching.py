"""Apply unified diffs to the pinned sources that they were made from.

A hunk has to fit at the very line that it names: there is no fuzz and no offset. Every patch is made from the unpatched
source, whatever the others change, so that editing one of them leaves the others alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import NamedTuple

_FILE = re.compile(r"--- a/(\S+)")
_HUNK = re.compile(r"@@ -(\d+)(?:,(\d+))? \+\d+(?:,(\d+))? @@")


class PatchError(Exception):
    """A patch is malformed or does not fit its source; the text names the patch, the file and the line."""


class Hunk(NamedTuple):
    """Lines of a file to replace: `old`, from the line with index `start` on, by `new`."""

    where: str  # patch and line, for messages
    file: str
    start: int
    old: list[str]
    new: list[str]


def apply(patches: Mapping[str, str], sources: Mapping[str, str]) -> dict[str, str]:
    """Return the path and the patched text of each file that a patch changes.

    Args:
        patches: the text of each patch, by its name.
        sources: the text of each file, by its path in the patches' headers, without `a/` and `b/`.

    Raises:
        PatchError: a patch has no reason or is no unified diff, a hunk does not fit, or two of them overlap.
    """
    hunks = [hunk for name, text in patches.items() for hunk in read_hunks(name, text)]
    hunks.sort(key=lambda hunk: (hunk.file, hunk.start))
    for above, below in pairwise(hunks):
        if above.file == below.file and above.start + len(above.old) > below.start:
            raise PatchError(f"{below.where}: overlaps with {above.where} in {below.file}, line {below.start + 1}")
    changed: dict[str, list[str]] = {}
    for hunk in reversed(hunks):  # from the end, so that line numbers stay right
        if hunk.file not in sources:
            raise PatchError(f"{hunk.where}: there is no {hunk.file}")
        lines = changed.setdefault(hunk.file, sources[hunk.file].split("\n"))
        for index, expected in enumerate(hunk.old, hunk.start):
            found = repr(lines[index]) if index < len(lines) else "missing"
            if found != repr(expected):
                raise PatchError(f"{hunk.where}: {hunk.file}, line {index + 1} is {found}, not {expected!r}")
        lines[hunk.start : hunk.start + len(hunk.old)] = hunk.new
    return {file: "\n".join(lines) for file, lines in changed.items()}


def read_hunks(name: str, patch: str) -> Iterator[Hunk]:
    """Yield the hunks of a patch, which begins with the reason for the change as text."""
    lines = patch.removesuffix("\n").split("\n")
    at = next((index for index, line in enumerate(lines) if line.startswith("--- ")), len(lines))
    if at == len(lines) or not "".join(lines[:at]).strip():
        raise PatchError(f"{name}:1: a patch is the reason for a change, as text, and its diff")
    file = ""
    while at < len(lines):
        where = f"{name}:{at + 1}"
        if (header := _FILE.fullmatch(lines[at])) and lines[at + 1 : at + 2] == [f"+++ b/{header[1]}"]:
            file, at = header[1], at + 2
            continue
        header = _HUNK.fullmatch(lines[at])
        if header is None or not file:
            raise PatchError(f"{where}: neither the header of a file nor of a hunk: {lines[at]!r}")
        first, old_count, new_count = (int(number or 1) for number in header.groups())
        old: list[str] = []
        new: list[str] = []
        at += 1
        while len(old) < old_count or len(new) < new_count:
            line = lines[at] if at < len(lines) else ""
            if line[:1] not in (" ", "-", "+"):
                raise PatchError(f"{where}: the hunk for {file}, line {first}, is shorter than its header says")
            old += [line[1:]] * (line[0] != "+")
            new += [line[1:]] * (line[0] != "-")
            at += 1
        if (len(old), len(new)) != (old_count, new_count):
            raise PatchError(f"{where}: the hunk for {file}, line {first}, does not have the lines its header says")
        yield Hunk(where, file, first - (old_count > 0), old, new)
