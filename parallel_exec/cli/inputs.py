"""The documents of `pexec run`, one after another as they are needed, so that an endless stdin is no problem."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import BinaryIO

import orjson

_MARK = b"\xef\xbb\xbf"  # U+FEFF, with which Windows programs begin UTF-8
_SEPARATOR = b"\x1e"  # begins each document of a text sequence (RFC 8142), as ogr2ogr's GeoJSONSeq with RS=YES
_BLANK = b" \t\r\n"


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


def read_documents(files: Sequence[str], *, lines: bool, in_thread: bool = False) -> Iterator[Document]:
    """Yield the documents of files, ``-`` being stdin: each file one, or each line that is not blank.

    A byte order mark at a file's beginning is no part of its document, nor is a line's record separator.

    Args:
        in_thread: they are read by a thread that may still wait for one when the interpreter exits.
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
            yield _name(file), None, "it holds several documents; --lines takes each line as one"
        else:
            yield _name(file), text, ""


def _is_several(text: bytes) -> bool:
    """Whether a file has a document in its first line, and more after that."""
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
    # At its exit the interpreter closes sys.stdin, and aborts if a thread waits for input from that.
    return os.fdopen(os.dup(sys.stdin.fileno()), "rb") if in_thread else sys.stdin.buffer


def _name(file: str) -> str:
    return "stdin" if file == "-" else file
