"""Signed messages to verify, one in eight of them tampered with, and the forms in which runtimes take them."""

from __future__ import annotations

import random
import struct
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, get_args

from parallel_exec.errors import PexecError

Scheme = Literal["schnorr", "ecdsa"]
SchemeChoice = Literal[Scheme, "random"]
"""A scheme, or one drawn for each message."""

SCHEMES: tuple[Scheme, ...] = get_args(Scheme)
LEAST_MESSAGES = 8

_NUMBERS = {"schnorr": 1, "ecdsa": 2}
_HEAD = struct.Struct("<BBHI")
_KEYS = 16
_TAMPERED = 8  # one in so many


class Signed(NamedTuple):
    """A message, and whether its signature is valid."""

    scheme: Scheme
    public_key: bytes
    signature: bytes
    message: bytes
    valid: bool

    def request(self) -> dict[str, Any]:
        """Return it as a module's `verify_message` takes it."""
        return {
            "kind": self.scheme,
            "public_key": self.public_key,
            "signature": self.signature,
            "message": self.message,
        }

    def in_hex(self) -> dict[str, str]:
        """Return it as the JavaScript plugin takes it."""
        return {
            "kind": self.scheme,
            "public_key": self.public_key.hex(),
            "signature": self.signature.hex(),
            "message": self.message.hex(),
        }


def batch(messages: Sequence[Signed]) -> bytes:
    r"""Return messages as a module's `verify_batch` takes them.

    >>> batch([Signed("ecdsa", b"key", b"sign", b"text", True)])
    b'\x02\x03\x04\x00\x04\x00\x00\x00keysigntext'
    """
    pack = _HEAD.pack
    parts = []
    for scheme, public_key, signature, message, _valid in messages:
        head = pack(_NUMBERS[scheme], len(public_key), len(signature), len(message))
        parts += [head, public_key, signature, message]
    return b"".join(parts)


def sign(scheme: SchemeChoice, count: int, seed: int) -> list[Signed]:
    """Return signed messages of 32 bytes each.

    Args:
        scheme: how they are signed; ``"random"`` draws a scheme for each.
        count: how many to sign.
        seed: decides keys, messages and which are tampered with.

    Raises:
        PexecError: the package that signs is not installed.
    """
    try:
        from coincurve import PrivateKey
    except ImportError:
        raise PexecError(
            "coincurve, which signs the messages, is not installed: pip install 'parallel_exec[verify]'"
        ) from None
    rng = random.Random(seed)  # noqa: S311 - the keys protect nothing, and a run can be repeated
    keys = [PrivateKey(rng.randbytes(32)) for _ in range(_KEYS)]
    messages = []
    for _ in range(count):
        key, message = rng.choice(keys), rng.randbytes(32)
        chosen: Scheme = rng.choice(SCHEMES) if scheme == "random" else scheme
        if chosen == "schnorr":
            public_key, signature = key.public_key_xonly.format(), key.sign_schnorr(message, rng.randbytes(32))
        else:
            public_key, signature = key.public_key.format(), key.sign(message)
        valid = rng.randrange(_TAMPERED) > 0
        if not valid:
            message = bytes([message[0] ^ 1]) + message[1:]
        messages.append(Signed(chosen, public_key, signature, message, valid))
    return messages
