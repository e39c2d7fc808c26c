"""The documents of `pexec run`, one after another as they are needed, so that an endless stdin is no problem."""

from __future__ import annotations

import errno
import sys
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import BinaryIO


@dataclass(frozen=True, slots=True)
class Document:
    """One document.

    Attributes:
        index: its number among all of them, from 0.
        origin: where it comes from: a file, or a file and a line.
        text: its JSON text, or None if it could not be read.
        problem: why it could not be read.
    """

    index: int
    origin: str
    text: bytes | None
    problem: str = ""


def read_documents(files: Sequence[str], *, lines: bool) -> Iterator[Document]:
    """Yield the documents of files, ``-`` being stdin: each file one, or each line that is not blank."""
    index = 0
    for file in files:
        for origin, text, problem in _lines(file) if lines else _whole(file):
            yield Document(index, origin, text, problem)
            index += 1


def _whole(file: str) -> Iterator[tuple[str, bytes | None, str]]:
    try:
        if file == "-":
            text = _stdin().read()
        else:
            with open(file, "rb") as stream:
                text = stream.read()
    except OSError as error:
        yield _name(file), None, f"cannot read it: {error.strerror or error}"
    else:
        yield _name(file), text, ""


def _lines(file: str) -> Iterator[tuple[str, bytes | None, str]]:
    number = 0
    try:
        with nullcontext(_stdin()) if file == "-" else open(file, "rb") as stream:
            for number, line in enumerate(stream, 1):
                text = line.strip(b" \t\r\n")
                if text:
                    yield f"{_name(file)} line {number}", text, ""
    except OSError as error:
        yield f"{_name(file)} line {number + 1}", None, f"cannot read it: {error.strerror or error}"


def _stdin() -> BinaryIO:
    if sys.stdin is None:
        raise OSError(errno.EBADF, "it is closed")
    return sys.stdin.buffer


def _name(file: str) -> str:
    return "stdin" if file == "-" else file
