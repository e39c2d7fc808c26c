"""Markdown pages and the blocks of code in them.

A comment on the line before a block, which readers do not see, tells the tests what they cannot know::

    <!-- test: not run, REASON -->   the block is not run
    <!-- test: needs FILE -->        the block needs a file that the text does not show; the test makes it
    <!-- test: run -->               the block is run although the page is not one whose blocks all are
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/**/*.md"))]

_NOTE = r"(?:<!-- test: (?P<note>[^\n]*) -->\n)?"
_BLOCK = re.compile(r"^" + _NOTE + r"```(?P<language>\w*)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        language: what stands behind the fence, or nothing.
        text: what is between the fences.
        line: number of the text's first line in its page.
        note: what its comment says.
    """

    language: str
    text: str
    line: int
    note: str

    def runs(self, *, by_default: bool) -> bool:
        """Whether the block is to be run, on a page all of whose blocks are or are not by default."""
        return not self.note.startswith("not run") if by_default else self.note.startswith("run")


def blocks(page: Path) -> list[Block]:
    """Return the blocks of a page."""
    content = page.read_text(encoding="utf-8")
    return [
        Block(
            language=found["language"],
            text=found["text"],
            line=content.count("\n", 0, found.start("text")) + 1,
            note=found["note"] or "",
        )
        for found in _BLOCK.finditer(content)
    ]
