"""What the tests of deep recursion share: a sandbox, and how a piece of code ends in it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import parallel_exec as px

SOURCE = """
const chain = (n, start, link) => { for (let i = 0; i < n; i++) start = link(start); return start };
const proxies = (n, target) => chain(n, target, inner => new Proxy(inner, {}));
function run({code, n}) { return String(new Function("n", code)(n)).slice(0, 20) }
function good(document) { return document.map(x => 2 * x) }
"""


@pytest.fixture(scope="module")
def sandbox() -> Iterator[px.Sandbox]:
    with px.Sandbox(px.Plugin(SOURCE), limits=px.Limits(time_s=None), on_console=lambda *_: None) as sandbox:
        yield sandbox


def outcome(sandbox: px.Sandbox, code: str, n: int) -> str:
    try:
        result = str(sandbox.call("run", {"code": code, "n": n}))
    except px.JSError as error:
        assert "the engine stopped" not in error.message
        assert "the native stack is exhausted" not in error.message
        result = error.name
    assert sandbox.call("good", [1, 2]) == [2, 4]
    return result


def check(sandbox: px.Sandbox, code: str, n: int) -> None:
    """The code ends well, or with an error that it can catch itself."""
    caught = f"try {{ {code} }} catch (e) {{ return e instanceof Error ? e.name + '!' : 'thrown' }} return 'done'"
    inside, outside = outcome(sandbox, caught, n), outcome(sandbox, code, n)
    assert "InternalError" not in (inside, outside)
    if inside.endswith("!"):
        assert inside in ("RangeError!", "SyntaxError!")
        assert outside in ("RangeError", "SyntaxError")
