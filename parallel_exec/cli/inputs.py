"""The documents that a command reads, one at a time as they are needed, so that stdin may be endless."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import BinaryIO

import orjson

_MARK = b"\xef\xbb\xbf"  # U+FEFF, which Windows programs put at the start of UTF-8
_SEPARATOR = b"\x1e"  # starts each document of a text sequence (RFC 8142), such as ogr2ogr's GeoJSONSeq with RS=YES
_BLANK = b" \t\r\n"


@dataclass(frozen=True, slots=True)
class Document:
    """One document.

    Attributes:
        index: its number among all documents, counted from 0.
        origin: where it comes from: a file, or a file and a line.
        text: its JSON text; None if it could not be read.
        problem: why it could not be read.
    """

    index: int
    origin: str
    text: bytes | None
    problem: str = ""

    def without_text(self) -> Document:
        """Return what an outcome needs to know of the document, once a pool has its text."""
        return Document(self.index, self.origin, None, self.problem)


def read_documents(files: Sequence[str], *, lines: bool, in_thread: bool = False) -> Iterator[Document]:
    """Yield the documents in files.

    A byte order mark at the start of a file, or a record separator at the start of a line, is not part of the document.

    Args:
        files: paths; ``-`` is stdin.
        lines: treat each line that is not blank as a document, rather than each file.
        in_thread: the caller is a thread that may still be waiting for input when the interpreter exits.
    """
    index = 0
    for file in files:
        for origin, text, problem in (_lines if lines else _whole)(file, in_thread):
            yield Document(index, origin, text, problem)
            index += 1


def _whole(file: str, in_thread: bool) -> Iterator[tuple[str, bytes | None, str]]:
    try:
        if file == "-":
            text = _stdin(in_thread=in_thread).read()
        else:
            with open(file, "rb") as stream:
                text = stream.read()
    except OSError as error:
        yield _name(file), None, f"cannot read it: {error.strerror or error}"
    else:
        text = text.removeprefix(_MARK)
        if _is_several(text):
            yield _name(file), None, "it holds several documents; use --lines to read one per line"
        else:
            yield _name(file), text, ""


def _is_several(text: bytes) -> bool:
    """Tell whether a file has a document on its first line, and more after it."""
    if text.startswith(_SEPARATOR):
        return True
    text = text.lstrip(_BLANK)
    end = text.find(b"\n")
    if end < 0 or not text[end:].strip(_BLANK):
        return False
    try:
        orjson.loads(text[:end])
    except orjson.JSONDecodeError:
        return False
    return True


def _lines(file: str, in_thread: bool) -> Iterator[tuple[str, bytes | None, str]]:
    number = 0
    try:
        with nullcontext(_stdin(in_thread=in_thread)) if file == "-" else open(file, "rb") as stream:
            for number, line in enumerate(stream, 1):
                text = line.removeprefix(_MARK) if number == 1 else line
                text = text.removeprefix(_SEPARATOR).strip(_BLANK)
                if text:
                    yield f"{_name(file)} line {number}", text, ""
    except OSError as error:
        yield f"{_name(file)} line {number + 1}", None, f"cannot read it: {error.strerror or error}"


def _stdin(*, in_thread: bool) -> BinaryIO:
    if sys.stdin is None:
        raise OSError(errno.EBADF, "it is closed")
    # The interpreter closes sys.stdin at exit, and aborts if a thread is waiting for input from it.
    return os.fdopen(os.dup(sys.stdin.fileno()), "rb") if in_thread else sys.stdin.buffer


def _name(file: str) -> str:
    return "stdin" if file == "-" else file
