"""Deploying, listing, swapping, executing: single calls, and the errors that come back."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest

import parallel_exec as px
from parallel_exec.service import Client, ServiceError
from parallel_exec.service._protocol import schema
from parallel_exec.service._protocol.statuses import DETAILS_KEY
from tests.service.programs import Serve

SOURCE = """
function double(x) { return 2 * x }
function fail(x) { throw new RangeError("not " + x) }
function spin(x) { for (;;) ; }
function eat(x) { let all = []; for (;;) all.push(new Array(1000).fill(x)) }
function long(x) { return "x".repeat(x) }
function bytes(a) { return a.map(x => x + 1) }
function odd(x) { throw new Error("\\ud800 half") }
function deep(x) { throw new Error("m".repeat(1e5) + "\\u00e9".repeat(1e5)) }
"""
PLUGIN = px.Plugin(SOURCE, name="tools.js")


@pytest.fixture
def name(client: Client, request: pytest.FixtureRequest) -> Iterator[str]:
    """A deployment of this test's own."""
    name: str = request.node.name
    client.deploy(name, PLUGIN)
    yield name
    client.undeploy(name)


def test_a_deployment_from_first_to_last(client: Client) -> None:
    first = client.deploy("life", px.Plugin("const f = x => [1, x]", name="one.js"))
    assert (first.name, first.version, first.plugin, first.functions) == ("life", 1, "one.js", ("f",))
    assert first in client.list()
    assert client.execute("life", "f", "a") == [1, "a"]
    second = client.swap("life", px.Plugin("const f = x => [2, x], g = f", name="two.js"), expected_version=1)
    assert (second.version, second.functions) == (2, ("f", "g"))
    assert second.digest != first.digest
    assert [each for each in client.list() if each.name == "life"] == [second]
    assert client.execute("life", "f", "a") == [2, "a"]
    assert client.undeploy("life") == second
    assert second not in client.list()
    with pytest.raises(ServiceError, match="nothing is deployed as 'life'") as gone:
        client.execute("life", "f", 1)
    assert gone.value.code == "NOT_FOUND"
    assert client.deploy("life", PLUGIN).version == 3  # a number is never used twice
    client.undeploy("life")


def test_names_and_versions_that_are_refused(client: Client, name: str) -> None:
    for call, code, text in (
        (lambda: client.deploy("", PLUGIN), "INVALID_ARGUMENT", "1 to 200 characters"),
        (lambda: client.swap("nobody", PLUGIN), "NOT_FOUND", "nothing is deployed as 'nobody'"),
        (lambda: client.swap(name, PLUGIN, expected_version=7), "FAILED_PRECONDITION", "version 1 of .* not version 7"),
        (lambda: client.undeploy("nobody"), "NOT_FOUND", "nothing is deployed as 'nobody'"),
        (lambda: client.execute(name, "nope", 1), "NOT_FOUND", "no function 'nope'; it has bytes, deep, double"),
        (lambda: client.execute(name, "", 1), "NOT_FOUND", "no function ''"),
    ):
        with pytest.raises(ServiceError, match=text) as refused:
            call()
        assert refused.value.code == code
    assert client.execute(name, "parseInt", "12") == 12  # built in, and callable as in a pool


def test_the_same_plugin_again_is_a_success_that_changes_nothing(client: Client, tmp_path: Path) -> None:
    file = tmp_path / "again.js"
    file.write_text("const f = x => 1")
    first = client.deploy("again", px.Plugin.from_file(file))
    assert client.deploy("again", px.Plugin.from_file(file)) == first
    assert (first.version, client.execute("again", "f", 0)) == (1, 1)
    client.swap("again", px.Plugin("const f = x => 2", name="again.js"))
    with pytest.raises(ServiceError, match=r"'again' already has another plugin, again\.js, as version 2; use swap"):
        client.deploy("again", px.Plugin.from_file(file))
    third = client.swap("again", px.Plugin.from_file(file))
    assert client.deploy("again", px.Plugin.from_file(file)) == third
    assert third.version == 3
    client.undeploy("again")


@pytest.mark.parametrize(
    ("other", "text"),
    [
        (px.Plugin("const f = x => 2", name="a.js"), r"another plugin, a\.js, as version 1; use swap to replace it"),
        (px.Plugin("const f = x => 1", name="b.js"), "another plugin"),
        (px.Plugin("const f = x => 1", name="a.js", eval=False), "another plugin"),
        (px.Plugin("const f = x => 1", name="a.js", domain="d"), "another plugin"),
        (px.Plugin("const f = x => 1", name="a.js", kind="script"), "another plugin"),
        (px.Plugin("const f = x => 1", name="a.js", limits=px.Limits(time_s=1)), "this plugin with other limits"),
        (px.Plugin("syntax error", name="a.js"), "another plugin"),
    ],
)
def test_another_plugin_never_replaces_what_is_deployed(client: Client, other: px.Plugin, text: str) -> None:
    there = client.deploy("kept", px.Plugin("const f = x => 1", name="a.js"))
    with pytest.raises(ServiceError, match=text) as refused:
        client.deploy("kept", other)
    assert refused.value.code == "ALREADY_EXISTS"
    assert (there in client.list(), client.execute("kept", "f", 0)) == (True, 1)
    client.undeploy("kept")


def test_many_that_deploy_the_same_at_once_get_one_version(client: Client) -> None:
    slow = px.Plugin("let x = 0; for (let i = 0; i < 1e6; i++) x += i; const f = () => x")
    with ThreadPoolExecutor(8) as threads:
        deployed = list(threads.map(lambda _: client.deploy("at once", slow), range(8)))
    assert {each.version for each in deployed} == {1}
    client.undeploy("at once")


def test_a_plugin_that_cannot_be_loaded_changes_nothing(client: Client, name: str) -> None:
    with pytest.raises(px.PluginError, match=r"broken\.js: ") as broken:
        client.swap(name, px.Plugin("function f( {", name="broken.js"))
    assert (broken.value.file, broken.value.line) == ("broken.js", 1)
    assert client.execute(name, "double", 4) == 8
    with pytest.raises(px.JobTimeout):
        client.deploy("endless", px.Plugin("for (;;) ;", limits=px.Limits(time_s=0.1)))
    assert "endless" not in [each.name for each in client.list()]
    with pytest.raises(ValueError, match="host functions cannot be sent"):
        client.deploy("hosted", px.Plugin("", host={"f": len}))
    with pytest.raises(ValueError, match="bounds only"):
        client.execute(name, "double", 1, limits=px.Limits(seed=3))


def test_documents_and_results(client: Client, name: str) -> None:
    assert client.execute(name, "double", b" 21 ") == 42
    assert client.execute(name, "double", 21, output="bytes") == b"42"
    assert client.execute(name, "bytes", b"\x01\x02", input="binary", output="bytes") == b"\x02\x03"
    assert client.execute(name, "double", 21, shared=True) == 42
    assert client.submit(name, "double", 21).result() == b"42"


@pytest.mark.parametrize("shared", [False, True])
def test_a_failure_is_the_same_error_as_in_a_pool(client: Client, name: str, *, shared: bool) -> None:
    with pytest.raises(px.JSError) as thrown:
        client.execute(name, "fail", {"a": 1}, shared=shared)
    error = thrown.value
    assert (error.name, error.message) == ("RangeError", "not [object Object]")
    assert (error.plugin, error.function, error.document) == ("tools.js", "fail", None)
    assert (error.file, error.line) == ("tools.js", 3)
    assert "at fail (tools.js:3:" in error.js_stack
    with pytest.raises(px.JSError) as here:
        PLUGIN.function("fail")({"a": 1})
    assert str(here.value.at(plugin="tools.js", function="fail")) == str(error)
    with pytest.raises(px.InvalidDocument) as invalid:
        client.execute(name, "double", b"[1,", shared=shared)
    assert invalid.value.offset == 3
    for function, document, error_class, limits in (
        ("spin", 0, px.JobTimeout, px.Limits(time_s=0.2)),
        ("eat", 0, px.MemoryLimitExceeded, px.Limits(memory_bytes=32 << 20)),
        ("long", 2000, px.OutputTooLarge, px.Limits(output_bytes=1000)),
    ):
        with pytest.raises(error_class, match=rf"tools.js: {function}\(\): "):
            client.execute(name, function, document, limits=limits, shared=shared)


def test_texts_that_grpc_could_not_carry(client: Client, name: str) -> None:
    with pytest.raises(px.JSError) as half:
        client.execute(name, "odd", 0)
    assert half.value.message == "\ufffd half"
    with pytest.raises(px.JSError) as long:
        client.execute(name, "deep", 0)
    assert long.value.message.startswith("mmm") and 100 < len(long.value.message) < 1000


def test_a_status_that_other_languages_read(address: str, client: Client, name: str) -> None:
    """google.rpc.Status in the trailing metadata, as the libraries for that expect it."""
    rpc_status = pytest.importorskip("google.rpc.status_pb2", reason="pip install googleapis-common-protos")
    with grpc.insecure_channel(address) as channel:
        execute = channel.unary_unary(f"/{schema.SERVICE}/Execute", schema.ExecuteRequest.SerializeToString, None)
        request = schema.ExecuteRequest(
            call={"deployment": name, "function": "fail"}, document=schema.Document(content=b"1")
        )
        with pytest.raises(grpc.RpcError) as failed:
            execute(request)
    assert failed.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert failed.value.details() == "tools.js: fail(): RangeError: not 1 (at tools.js:3:50)"
    status = rpc_status.Status.FromString(dict(failed.value.trailing_metadata())[DETAILS_KEY])
    assert status.code == grpc.StatusCode.FAILED_PRECONDITION.value[0]
    failure = schema.Failure()
    assert status.details[0].Unpack(failure)
    assert (failure.error, failure.js_name, failure.js_message) == ("JSError", "RangeError", "not 1")


def test_the_tightest_limits_win(client: Client) -> None:
    client.deploy("tight", px.Plugin(SOURCE, limits=px.Limits(time_s=0.1)))
    with pytest.raises(px.JobTimeout, match=r"0\.1"):
        client.execute("tight", "spin", 0, limits=px.Limits(time_s=50))
    client.undeploy("tight")


def test_statistics(client: Client, name: str) -> None:
    before = client.stats()
    client.execute(name, "double", 1)
    with pytest.raises(px.JSError):
        client.execute(name, "fail", 1)
    after = client.stats()
    assert after.jobs == before.jobs + 2
    assert after.failures["JSError"] == before.failures.get("JSError", 0) + 1
    assert after.run.count > before.run.count and after.run.p50 <= after.run.p99
    assert (len(after.workers), after.calls) == (2, 0)
    assert after.deployments >= 1


def test_no_more_different_limits_than_a_pool_should_keep(serve: Serve) -> None:
    _, address = serve()
    with Client(address) as client:
        client.deploy("d", PLUGIN)
        for number in range(256):
            assert client.execute("d", "double", 1, limits=px.Limits(output_bytes=100 + number)) == 2
        assert client.execute("d", "double", 1, limits=px.Limits(output_bytes=100)) == 2
        with pytest.raises(ServiceError, match="256 different limits") as refused:
            client.execute("d", "double", 1, limits=px.Limits(output_bytes=99))
        assert refused.value.code == "RESOURCE_EXHAUSTED"


def test_a_module(client: Client) -> None:
    from tests.wasm.modules import GUEST, module

    wasm = px.WasmPlugin(module(GUEST), name="guest.wasm")
    assert client.deploy("wasm", wasm).functions == ()
    assert client.deploy("wasm", wasm).version == 1
    for shared in (False, True):
        assert client.execute("wasm", "echo", {"a": [1, b"2"]}, input="msgpack", shared=shared) == {"a": [1, b"2"]}
        assert (
            client.execute("wasm", "echo", b"any bytes", input="binary", output="bytes", shared=shared) == b"any bytes"
        )
    assert client.execute("wasm", "echo", {"a": [1, 2]}) == {"a": [1, 2]}  # JSON is MessagePack for the module
    values = [result.value for result in client.stream("wasm", "echo", [{1: b"x"}, [None]], input="msgpack")]
    assert values == [{1: b"x"}, [None]]
    with pytest.raises(px.WasmError, match=r"guest\.wasm: fail\(\): .*it is done") as said:
        client.execute("wasm", "fail", 1)
    assert (said.value.message, said.value.trapped) == ("it is done", False)
    with pytest.raises(px.WasmError) as trapped:
        client.execute("wasm", "trap", 1)
    assert trapped.value.trapped
    with pytest.raises(ServiceError, match="input must be 'json' or 'binary'") as refused:
        client.swap("wasm", PLUGIN)
        client.execute("wasm", "double", 1, input="msgpack")
    assert refused.value.code == "INVALID_ARGUMENT"
    with pytest.raises(px.PluginError, match=r"broken\.wasm"):
        client.swap("wasm", px.WasmPlugin(b"\0asm\1\0\0\0", name="broken.wasm"))
    client.undeploy("wasm")
