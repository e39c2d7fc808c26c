"""ARCHITECTURE.md's table of rooms is of the rooms that there are."""

from __future__ import annotations

import re

from tests.docs.pages import ROOT

PACKAGE = ROOT / "parallel_exec"


def rooms() -> list[str]:
    """The paths that the table names; those after a row's first lie beside it."""
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    table = text.partition("## Rooms\n")[2].partition("###")[0]
    named = []
    for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE):
        first, *others = re.findall(r"`(.*?)`", row)
        beside = first.rstrip("/").rpartition("/")[0]
        named += [first, *(other if (ROOT / other).exists() else f"{beside}/{other}" for other in others)]
    return named


def test_the_rooms_exist() -> None:
    assert len(rooms()) > 20
    for room in rooms():
        assert (ROOT / room).exists(), f"there is no {room}"


def test_no_room_is_missing() -> None:
    packages = {path.parent for path in PACKAGE.glob("*/__init__.py")}
    modules = {path for path in PACKAGE.glob("*.py") if path.name != "__main__.py"}
    named = {(ROOT / room) for room in rooms()}
    assert packages | modules <= named
