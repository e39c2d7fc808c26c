"""Plugin(eval=False): no way from a string to code, but the plugin's own source compiles and runs."""

from __future__ import annotations

import pytest

import parallel_exec as px
from parallel_exec.sandbox._js.driver import SourceKind

WAYS = [
    "eval('1')",
    "(0, eval)('1')",
    "eval.call(null, '1')",
    "globalThis['ev' + 'al']('1')",
    "Reflect.apply(eval, null, ['1'])",
    "new Function('return 1')()",
    "Function('return 1')()",
    "Function.prototype.constructor('return 1')",
    "Reflect.construct(Function, ['return 1'])",
    "(() => 1).constructor('return 1')",
    "[].map.constructor('return 1')",
    "''.sub.constructor.constructor('return 1')",
    "(class {}).constructor('return 1')",
    "(async () => 1).constructor('return 1')",
    "(function* () {}).constructor('return 1')",
    "(async function* () {}).constructor('return 1')",
    "Object.getPrototypeOf(async () => 1).constructor('return 1')",
    "(() => 1).bind().constructor('return 1')",
    "new (class extends Function {})('return 1')",
    "new Proxy(Function, {})('return 1')",
    "['1'].map(x => Function(x))",
    "'1'.replace(/1/, eval)",
    "[...(function* () { yield eval('1') })()]",
]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", ["script", "module"])
def test_no_code_from_strings(way: str, kind: SourceKind) -> None:
    source = f"{'export ' if kind == 'module' else ''}function f() {{ return {way} }}"
    with px.Sandbox(px.Plugin(source, kind=kind, eval=False)) as sandbox:
        for _ in range(2):
            with pytest.raises(px.JSError, match="EvalError: this plugin may not make code of strings") as caught:
                sandbox.call("f", 0)
            assert caught.value.line == 1
    with px.Sandbox(px.Plugin(source, kind=kind)) as sandbox:
        sandbox.call("f", 0)


def test_it_is_an_eval_error_that_can_be_caught() -> None:
    source = "const f = () => { try { return eval('1') } catch (e) { return e instanceof EvalError } }"
    assert px.Plugin(source, eval=False).function("f")(0) is True


def test_what_is_no_code_still_works() -> None:
    source = """
    const twice = x => 2 * x;
    class A { static #n = 3; static get n() { return A.#n } }
    async function* g() { yield 1 }
    async function f(d) {
        const all = [];
        for await (const x of g()) all.push(x);
        return [twice(d), A.n, all, eval(5), JSON.parse('[1]'), /a(b)/.exec('ab')[1], new RegExp('x+').test('xx')];
    }"""
    assert px.Plugin(source, eval=False).function("f")(2) == [4, 3, [1], 5, [1], "b", True]


def test_it_holds_while_the_plugin_is_loaded() -> None:
    for source in ("eval('1')", "const f = new Function('1')", "export const f = Function('1')"):
        with pytest.raises(px.PluginError, match="EvalError: this plugin may not make code"):
            px.Plugin(source, eval=False).image()


def test_it_is_part_of_the_plugin() -> None:
    source = "function f() { return eval('1') }"
    on, off = px.Plugin(source), px.Plugin(source, eval=False)
    assert on != off and on.digest != off.digest
    assert on.function("f")(0) == 1
    with pytest.raises(px.JSError):
        off.function("f")(0)
    with pytest.raises(TypeError, match=r"Plugin\.eval must be True or False, not 0"):
        px.Plugin(source, eval=0)  # type: ignore[arg-type]


def test_the_functions_of_such_a_plugin_can_be_listed() -> None:
    from parallel_exec.sandbox._js.functions import functions_of, has_function

    for source in ("const f = 1, g = x => eval(x)", "export const g = x => eval(x)"):
        image = px.Plugin(source, eval=False).image()
        assert functions_of(image, source=source) == ["g"]
        assert has_function(image, "g")
