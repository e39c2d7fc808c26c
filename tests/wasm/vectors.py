"""Test vectors out of the pinned sources: BIP-340's, which the library's tests have as C arrays, and Wycheproof's."""

from __future__ import annotations

import io
import json
import re
import sys
import tarfile
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


class Vector(NamedTuple):
    """A signed message and whether it is rightly signed."""

    name: str
    kind: str
    public_key: bytes
    signature: bytes
    message: bytes
    valid: bool

    @property
    def request(self) -> dict[str, object]:
        return {
            "kind": self.kind,
            "public_key": self.public_key,
            "signature": self.signature,
            "message": self.message,
        }


@cache
def build_modules() -> ModuleType:
    """The script that fetches the sources and builds the modules."""
    sys.path.insert(0, str(SCRIPTS))
    try:
        import build_modules
    finally:
        sys.path.remove(str(SCRIPTS))
    return build_modules


@cache
def _source(name: str) -> str:
    script = build_modules()
    root = script.SOURCE.filename.removesuffix(".tar.gz")
    with tarfile.open(fileobj=io.BytesIO(script.fetch(script.SOURCE)), mode="r:gz") as tar:
        member = tar.extractfile(f"{root}/libsecp256k1/src/{name}")
        assert member is not None
        return member.read().decode()


_BLOCK = re.compile(r"/\* Test vector (\d+) \*/(.*?)\n    }\n", re.DOTALL)
_ARRAY = re.compile(r"const unsigned char (\w+)\[\d*\] = \{(.*?)\};", re.DOTALL)
_FILLED = re.compile(r"unsigned char (\w+)\[(\d+)\];\s*memset\(\1, (0x[0-9A-Fa-f]{2}), sizeof\(\1\)\);")
_VERIFY = re.compile(r"check_verify\(pk, (?:msg, sizeof\(msg\)|NULL, 0), sig, (\d)\)")


def bip340() -> list[Vector]:
    """BIP-340's vectors 0 to 18."""
    source = _source("modules/schnorrsig/tests_impl.h")
    source = source[source.index("static void test_schnorrsig_bip_vectors(void)") :]
    vectors = []
    for number, block in _BLOCK.findall(source[: source.index("\n}\n") + 1]):
        arrays = {
            name: bytes(int(each, 16) for each in re.findall(r"0x[0-9A-Fa-f]{2}", text))
            for name, text in _ARRAY.findall(block)
        }
        for name, length, byte in _FILLED.findall(block):
            arrays[name] = bytes([int(byte, 16)]) * int(length)
        found = _VERIFY.search(block)
        valid = found is not None and found[1] == "1"
        message = arrays.get("msg", b"")
        # A block that verifies nothing is of a key that cannot be parsed; its signature and message play no part.
        vectors.append(
            Vector(f"BIP-340 {number}", "schnorr", arrays["pk"], arrays.get("sig", bytes(64)), message, valid)
        )
    return vectors


def wycheproof() -> list[Vector]:
    """Wycheproof's vectors of ECDSA with SHA-256 as Bitcoin has it: DER, and only the low one of two signatures."""
    return [
        Vector(
            f"Wycheproof {test['tcId']}",
            "ecdsa",
            bytes.fromhex(group["publicKey"]["uncompressed"]),
            bytes.fromhex(test["sig"]),
            bytes.fromhex(test["msg"]),
            test["result"] == "valid",
        )
        for group in json.loads(_source("wycheproof/ecdsa_secp256k1_sha256_bitcoin_test.json"))["testGroups"]
        for test in group["tests"]
    ]
