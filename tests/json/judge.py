"""An independent judge of JSON text: a pushdown automaton over bytes that knows where a text stops being one.

It is slow and has no values, which is what makes it short enough to be believed. test_documents.py checks it against
Python's `json` and UTF-8 decoder too.
"""

from __future__ import annotations

import json

SPACE = b" \t\n\r"
DIGITS = b"0123456789"
HEX = b"0123456789abcdefABCDEF"


class Wrong(Exception):
    """The text is not JSON; `offset` is the first byte that cannot continue it, or its length if it ends too early."""

    def __init__(self, offset: int) -> None:
        super().__init__(offset)
        self.offset = offset


def fault(text: bytes) -> int | None:
    """Return the offset of the first byte that cannot be JSON, or None if the text is JSON.

    For bytes that are not UTF-8 it is the offset of the character that they begin.
    """
    try:
        Judge(text).document()
    except Wrong as wrong:
        return wrong.offset
    return None


def python_accepts(text: bytes) -> bool:
    """Say whether Python's strict `json` accepts the bytes as UTF-8 text."""

    def refuse(_word: str) -> None:
        raise ValueError("NaN and Infinity are not JSON")

    try:
        json.loads(text.decode("utf-8"), parse_constant=refuse, parse_int=float)
    except ValueError:
        return False
    return True


class Judge:
    """Walks one text; every method leaves `at` after the part that it is named for."""

    def __init__(self, text: bytes) -> None:
        self.text = text
        self.at = 0

    def peek(self) -> bytes:
        return self.text[self.at : self.at + 1]

    def take(self, allowed: bytes) -> bytes:
        byte = self.peek()
        if not byte or byte not in allowed:
            raise Wrong(self.at)
        self.at += 1
        return byte

    def spaces(self) -> None:
        while self.peek() and self.peek() in SPACE:
            self.at += 1

    def digits(self) -> None:
        self.take(DIGITS)
        while self.peek() and self.peek() in DIGITS:
            self.at += 1

    def document(self) -> None:
        closers: list[bytes] = []
        while True:
            self.spaces()
            opened = self.value_or_open()
            if opened:
                closers.append(opened)
                self.spaces()
                if self.peek() != closers[-1]:
                    self.key(closers[-1])
                    continue
                self.at += 1
                closers.pop()
            while True:  # a value has ended
                self.spaces()
                if not closers:
                    if self.at < len(self.text):
                        raise Wrong(self.at)
                    return
                if self.take(b"," + closers[-1]) == b",":
                    self.spaces()
                    self.key(closers[-1])
                    break
                closers.pop()

    def key(self, closer: bytes) -> None:
        if closer == b"}":
            self.take(b'"')
            self.string()
            self.spaces()
            self.take(b":")

    def value_or_open(self) -> bytes:
        """Take a scalar and return b"", or take an opening bracket and return the one that closes it."""
        first = self.take(b'{["-0123456789tfn')
        if first == b"{":
            return b"}"
        if first == b"[":
            return b"]"
        if first == b'"':
            self.string()
        elif first in b"tfn":
            for byte in {b"t": b"rue", b"f": b"alse", b"n": b"ull"}[first]:
                self.take(bytes([byte]))
        else:
            self.number(first)
        return b""

    def number(self, first: bytes) -> None:
        if first == b"-":
            first = self.take(DIGITS)
        if first != b"0":
            while self.peek() and self.peek() in DIGITS:
                self.at += 1
        if self.peek() == b".":
            self.at += 1
            self.digits()
        if self.peek() in (b"e", b"E"):
            self.at += 1
            if self.peek() in (b"+", b"-"):
                self.at += 1
            self.digits()

    def string(self) -> None:
        while (byte := self.peek()) != b'"':
            if not byte or byte < b" ":
                raise Wrong(self.at)
            if byte == b"\\":
                self.at += 1
                if self.take(b'"\\/bfnrtu') == b"u":
                    for _ in range(4):
                        self.take(HEX)
            elif byte < b"\x80":
                self.at += 1
            else:
                self.character()
        self.at += 1

    def character(self) -> None:
        for length in (2, 3, 4):
            piece = self.text[self.at : self.at + length]
            try:
                piece.decode("utf-8")
            except UnicodeDecodeError:
                continue
            self.at += length
            return
        raise Wrong(self.at)
