"""Plugin and PluginFunction: value objects over JavaScript source."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import threading
from pathlib import Path
from typing import Any

import pytest

import parallel_exec as px
from parallel_exec.plugins import _base as plugins_base

DOUBLE = "function double(x) { return 2 * x }"


def test_a_plugin_is_a_value() -> None:
    plugin = px.Plugin(DOUBLE, name="double.js")
    assert plugin == px.Plugin(DOUBLE, name="double.js")
    assert plugin == pickle.loads(pickle.dumps(plugin)) == copy.deepcopy(plugin)
    assert len({plugin, px.Plugin(DOUBLE, name="double.js"), px.Plugin(DOUBLE), px.Plugin(DOUBLE, kind="script")}) == 3
    with pytest.raises(dataclasses.FrozenInstanceError):
        plugin.source = ""  # type: ignore[misc]


def test_the_digest_tells_plugins_apart() -> None:
    plugins = [
        px.Plugin(DOUBLE),
        px.Plugin(DOUBLE, name="double.js"),
        px.Plugin(DOUBLE, kind="module"),
        px.Plugin(DOUBLE + " "),
        px.Plugin("\ud800"),
    ]
    assert len({plugin.digest for plugin in plugins}) == len(plugins)
    assert all(len(plugin.digest) == 64 for plugin in plugins)
    first = plugins[0]
    assert pickle.loads(pickle.dumps(first)).digest == first.digest


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"source": b"1"}, TypeError, "Plugin.source must be a str, not bytes"),
        ({"source": "1", "name": Path("a.js")}, TypeError, "Plugin.name must be a str"),
        ({"source": "1", "kind": "wasm"}, ValueError, "Plugin.kind must be 'auto', 'script' or 'module'; got 'wasm'"),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        px.Plugin(**arguments)


def test_from_file(tmp_path: Path) -> None:
    script = tmp_path / "double.js"
    script.write_text(DOUBLE, encoding="utf-8")
    module = tmp_path / "double.mjs"
    module.write_text("export " + DOUBLE, encoding="utf-8")
    assert px.Plugin.from_file(script) == px.Plugin(DOUBLE, name="double.js", kind="auto")
    assert px.Plugin.from_file(str(module)).kind == "module"
    assert px.Plugin.from_file(module, kind="auto", name="x").name == "x"
    assert px.Plugin.from_file(module).function("double")(4) == 8


def test_a_file_that_cannot_be_read_is_a_plugin_error(tmp_path: Path) -> None:
    latin = tmp_path / "latin.js"
    latin.write_bytes(b"// caf\xe9\n")
    module = tmp_path / "module.wasm"
    module.write_bytes(b"\0asm\1\0\0\0")
    for path, message in (
        (tmp_path / "missing.js", "cannot read the plugin: No such file or directory"),
        (tmp_path, "cannot read the plugin: Is a directory"),
        (latin, r"not UTF-8 text \(byte 6\)"),
        (module, r"is a WebAssembly module, not JavaScript; WasmPlugin\.from_file reads those"),
    ):
        with pytest.raises(px.PluginError, match=message) as caught:
            px.Plugin.from_file(path)
        assert caught.value.plugin == str(path)
        assert str(caught.value).startswith(str(path))


def test_a_byte_order_mark_is_not_source(tmp_path: Path) -> None:
    file = tmp_path / "bom.js"
    file.write_bytes(b"\xef\xbb\xbf" + DOUBLE.encode())
    assert px.Plugin.from_file(file).function("double")(4) == 8


def test_nothing_is_compiled_before_it_is_needed() -> None:
    broken = px.Plugin("function (", name="broken.js")
    function = broken.function("f")
    with pytest.raises(px.PluginError, match=r"broken\.js: .*does not compile: SyntaxError"):
        function(1)
    with pytest.raises(px.PluginError, match="does not compile"):
        px.Sandbox(broken)


def test_functions_are_values() -> None:
    plugin = px.Plugin(DOUBLE)
    function = plugin.function("double")
    assert function == plugin.function("double")
    assert function != plugin.function("double", output="bytes")
    assert pickle.loads(pickle.dumps(function))(21) == 42
    assert plugin.function("double", output="bytes")(21) == b"42"
    for name in ("", None, 3):
        with pytest.raises(TypeError, match="non-empty str"):
            plugin.function(name)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="output must be 'value', 'bytes' or 'numpy'; got 'text'"):
        plugin.function("double", output="text")  # type: ignore[arg-type]


def test_reprs_are_short_and_tell_what_was_chosen() -> None:
    plugin = px.Plugin("/* long */" * 1000 + DOUBLE, name="double.js")
    assert repr(plugin) == "<Plugin 'double.js'>"
    assert repr(plugin.function("double")) == "<PluginFunction double() of 'double.js'>"
    limits = px.Limits(time_s=0.5)
    assert repr(limits) == "Limits(time_s=0.5)"
    assert (
        repr(px.Plugin("", eval=False, limits=limits)) == "<Plugin 'plugin.js', eval=False, limits=Limits(time_s=0.5)>"
    )
    assert repr(plugin.function("f", output="bytes")) == "<PluginFunction f() of 'double.js', output='bytes'>"
    assert repr(px.WasmPlugin(b"", name="x.wasm", domain="a")) == "<WasmPlugin 'x.wasm', domain='a'>"


def test_a_missing_function_is_named() -> None:
    with pytest.raises(px.PluginError, match=r"no function 'trouble'") as caught:
        px.Plugin(DOUBLE, name="double.js").function("trouble")(1)
    assert (caught.value.plugin, caught.value.function) == ("double.js", "trouble")
    with pytest.raises(px.PluginError, match="a name of 300 bytes is too long"):
        px.Plugin(DOUBLE).function("x" * 300)(1)


def test_names_need_not_be_ascii() -> None:
    plugin = px.Plugin("const größe = x => x.length; globalThis['a b'] = () => 1; export { größe }", name="größe.mjs")
    assert plugin.function("größe")([1, 2]) == 2
    script = px.Plugin("const \U0001d4b3 = () => 7; globalThis['a b'] = () => 8; globalThis['\\ud800'] = () => 9")
    assert [script.function(name)(0) for name in ("\U0001d4b3", "a b", "\ud800")] == [7, 8, 9]


def test_the_image_is_captured_once_a_process() -> None:
    plugin = px.Plugin("function f() { return 1 } // captured once")
    assert plugin.image() is px.Plugin(plugin.source).image()
    assert plugin.image() is not px.Plugin(plugin.source, name="other.js").image()
    warm = plugin.image(samples=[{"a": 1}, b"[1]"], function="f")
    assert warm is not plugin.image()
    with px.Sandbox(warm) as sandbox:
        assert sandbox.call("f", 0) == 1


def test_warm_up_needs_a_function_and_good_samples() -> None:
    plugin = px.Plugin("function f(d) { return d.a.b }", name="warm.js")
    with pytest.raises(ValueError, match="name of the function"):
        plugin.image(samples=[{}])
    with pytest.raises(px.PluginError, match=r"warm\.js: .*the warm-up with sample 1 fails: .*TypeError"):
        plugin.image(samples=[{"a": {}}, {}], function="f")
    with pytest.raises(px.PluginError, match="sample 0 fails"):
        plugin.image(samples=[b"[1,"], function="f")
    with pytest.raises(px.PluginError, match="sample 0 fails"):
        plugin.image(samples=[1], function="g")


def test_threads_have_their_own_sandboxes() -> None:
    function = px.Plugin("let n = 0; function f(x) { n += x; return n }").function("f")
    results: list[list[int]] = []
    used: list[px.Sandbox] = []

    def work(base: int) -> None:
        results.append([function(base + i) - base - i for i in range(200)])
        used.append(plugins_base.thread_sandboxes.get(function.plugin, None))

    threads = [threading.Thread(target=work, args=(1000 * i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [[0] * 200] * 4
    assert len(set(map(id, used))) == 4


def test_a_thread_keeps_only_its_recent_sandboxes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugins_base, "_KEPT_SANDBOXES", 2)
    monkeypatch.setattr(plugins_base, "thread_sandboxes", plugins_base.ThreadSandboxes())
    functions = [px.Plugin(f"const f = x => x + {i}").function("f") for i in range(4)]
    assert [function(0) for function in functions] == [0, 1, 2, 3]
    kept = plugins_base.thread_sandboxes.sandboxes
    assert [plugin for plugin, _ in kept] == [functions[2].plugin, functions[3].plugin]
    assert functions[0](0) == 0
    assert [plugin for plugin, _ in kept] == [functions[3].plugin, functions[0].plugin]


def test_a_domain_belongs_to_the_plugin() -> None:
    plugin = px.Plugin(DOUBLE, domain="tenant-a")
    assert plugin != px.Plugin(DOUBLE, domain="tenant-b") and plugin != px.Plugin(DOUBLE)
    assert len({plugin.digest, px.Plugin(DOUBLE, domain="tenant-b").digest, px.Plugin(DOUBLE).digest}) == 3
    assert pickle.loads(pickle.dumps(plugin.function("double"))).plugin.domain == "tenant-a"
    assert plugin.function("double")(4) == 8
    with pytest.raises(TypeError, match=r"Plugin\.domain must be a str or None, not int"):
        px.Plugin(DOUBLE, domain=1)  # type: ignore[arg-type]


def test_from_file_takes_the_options(tmp_path: Path) -> None:
    file = tmp_path / "options.js"
    file.write_text("const f = x => len(x)", encoding="utf-8")
    plugin = px.Plugin.from_file(file, host={"len": len}, eval=False, domain="tenant-a")
    assert plugin == px.Plugin("const f = x => len(x)", "options.js", host={"len": len}, eval=False, domain="tenant-a")
    assert plugin.function("f")([1, 2]) == 2


def test_pinned_chance_and_time_hold_while_a_plugin_is_loaded() -> None:
    plugin = px.Plugin("const r = Math.random(), t = Date.now(); const f = () => [r, t]")
    pinned = [px.Limits(seed=seed, time=time) for seed, time in ((1, 5.0), (1, 5.0), (2, 5.0), (1, 6.0))]
    found = []
    for limits in pinned:
        with px.Sandbox(plugin, limits=limits) as sandbox:
            found.append(sandbox.call("f", 0))
    assert found[0] == found[1] and found[0][1] == 5000 and found[3][1] == 6000
    assert found[2][0] != found[0][0]
    assert plugin.image(limits=pinned[0]) is plugin.image(limits=pinned[1]) is not plugin.image()
    assert plugin.image(limits=pinned[0]).to_bytes() == plugin.capture(pinned[0]).to_bytes()
