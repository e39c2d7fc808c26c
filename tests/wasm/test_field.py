"""The field multiplication that modules for interpreters have in place of the library's, against Python's integers."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import pytest
import wasmtime

from tests.wasm.vectors import build_modules

pytest.importorskip("ziglang")

P = 2**256 - 2**32 - 977
LIMBS = 10
# What the library lets operands have: 16 times a limb, 16 times the last.
MOST = [16 * (2**26 - 1)] * 9 + [16 * (2**22 - 1)]
R, A, B = (1024 + 64 * number for number in range(3))

Multiply = Callable[[Sequence[int], Sequence[int]], list[int]]


@pytest.fixture(scope="module")
def field() -> tuple[Multiply, Multiply]:
    """Return the product, and the square of the first operand."""
    build = build_modules()
    flags = ["-target", "wasm32-freestanding", "-mcpu=mvp", "-O3", "-nostdlib", "-Wl,--no-entry"]
    exports = [f"-Wl,--export=secp256k1_fe_{name}_inner" for name in ("mul", "sqr")]
    unit = str(build.MODULES / build.FIELD_UNIT)
    store = wasmtime.Store()
    module = wasmtime.Module(store.engine, build.run_compiler([*flags, *exports, unit], "the field"))
    functions = wasmtime.Instance(store, module, []).exports(store)
    memory = functions["memory"]
    assert isinstance(memory, wasmtime.Memory)

    def run(name: str, a: Sequence[int], b: Sequence[int], *arguments: int) -> list[int]:
        for address, limbs in ((A, a), (B, b)):
            memory.write(store, b"".join(limb.to_bytes(4, "little") for limb in limbs), address)
        function = functions[f"secp256k1_fe_{name}_inner"]
        assert isinstance(function, wasmtime.Func)
        function(store, *arguments)
        found = memory.read(store, arguments[0], arguments[0] + 4 * LIMBS)
        return [int.from_bytes(found[at : at + 4], "little") for at in range(0, 4 * LIMBS, 4)]

    # In place when square: the library does so.
    return lambda a, b: run("mul", a, b, R, A, B), lambda a, b: run("sqr", a, b, A, A)


def number(limbs: Sequence[int]) -> int:
    return sum(limb << 26 * position for position, limb in enumerate(limbs))


def operands() -> list[tuple[list[int], list[int]]]:
    rng = random.Random(1)
    one = [1] + [0] * 9
    p = [P >> 26 * position & 2**26 - 1 for position in range(LIMBS)]
    edges = [MOST, one, [0] * LIMBS, p, [16 * limb for limb in p]]
    found = [(a, b) for a in edges for b in edges]
    for _ in range(300):
        a, b = ([rng.choice((rng.randint(0, most), most, 0)) for most in MOST] for _ in range(2))
        found.append((a, b))
    return found


def test_products_and_squares_are_right_and_carried(field: tuple[Multiply, Multiply]) -> None:
    multiply, square = field
    for a, b in operands():
        for limbs, expected in ((multiply(a, b), number(a) * number(b)), (square(a, b), number(a) ** 2)):
            assert number(limbs) % P == expected % P, (a, b)
            # As the library has them after a multiplication: no limb too long but the third, by a last carry.
            assert all(limb < 2**26 for position, limb in enumerate(limbs) if position != 2), (a, b)
            assert limbs[2] < 2**27 and limbs[9] < 2**22, (a, b)
