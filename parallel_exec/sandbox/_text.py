"""Text from the guest: UTF-8 in which a lone surrogate, which JavaScript allows, is encoded like a character."""

from __future__ import annotations


def read_text(content: bytes) -> str:
    r"""Return the text with each lone surrogate as one U+FFFD, so that whoever prints or stores it can encode it.

    >>> read_text(b"caf\xc3\xa9 \xed\xa0\x80")
    'café \ufffd'
    """
    try:
        return content.decode()
    except UnicodeDecodeError:
        pass
    try:
        units = content.decode("utf-8", "surrogatepass").encode("utf-16-le", "surrogatepass")
    except UnicodeDecodeError:
        return content.decode("utf-8", "replace")
    return units.decode("utf-16-le", "replace")


def printable(text: str, most: int = 100) -> str:
    r"""Return as much of a text that a module's author chose as a message can show.

    >>> printable("\x1b[31mred", 8) == "\ufffd[31mred"
    True
    """
    return "".join(character if character.isprintable() else "\ufffd" for character in text[:most])
