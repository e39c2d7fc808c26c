"""That the peers do the same work, and say so when they cannot."""

from __future__ import annotations

import orjson
import pytest

from parallel_exec import JSError, Limits, Plugin
from parallel_exec.measure.fixture import FUNCTION, document_path, is_shipped, plugin_path
from parallel_exec.measure.peers import PEERS, NotForThisWork, Peer, PlainPython, track_length
from parallel_exec.measure.strategies import Work


def shipped() -> Work:
    plugin = Plugin.from_file(plugin_path())
    return Work(plugin=plugin, function=FUNCTION, document=document_path().read_bytes(), limits=Limits())


@pytest.fixture(params=PEERS, ids=lambda peer: peer.name)
def peer_class(request: pytest.FixtureRequest) -> type[Peer]:
    if not request.param.available():
        pytest.skip(f"{request.param.package} is not installed")
    found: type[Peer] = request.param
    return found


def test_the_same_answer_as_the_sandbox(peer_class: type[Peer]) -> None:
    work = shipped()
    expected = work.plugin.function(FUNCTION)(work.document)
    peer = peer_class(work)
    try:
        peer.prepare()
        assert [orjson.loads(answer) for answer in peer.run_many(3)] == [pytest.approx(expected, rel=1e-5)] * 3
    finally:
        peer.close()


def test_text_survives(peer_class: type[Peer]) -> None:
    if peer_class is PlainPython:
        pytest.skip("it knows one function")
    plugin = Plugin("function f(d) { return [d.text, undefined] }")
    peer = peer_class(Work(plugin=plugin, function="f", document='{"text": "é\\u0000😀"}'.encode(), limits=Limits()))
    try:
        peer.prepare()
        assert orjson.loads(peer.run()) == ["é\0😀", None]
    finally:
        peer.close()


def test_an_error_in_the_plugin_is_ours(peer_class: type[Peer]) -> None:
    if peer_class is PlainPython:
        pytest.skip("it knows one function")
    plugin = Plugin("function f(d) { throw new Error('no') }")
    peer = peer_class(Work(plugin=plugin, function="f", document=b"1", limits=Limits()))
    try:
        peer.prepare()
        with pytest.raises(JSError, match="no"):
            peer.run()
    finally:
        peer.close()


def test_a_module_is_not_for_them(peer_class: type[Peer]) -> None:
    plugin = Plugin("export function f(d) { return d }")
    peer = peer_class(Work(plugin=plugin, function="f", document=b"1", limits=Limits()))
    try:
        with pytest.raises(NotForThisWork):
            peer.prepare()
    finally:
        peer.close()


def test_the_counterpart_in_python_is_for_the_shipped_plugin_only() -> None:
    assert is_shipped(Plugin.from_file(plugin_path(), name="other.js"))
    assert not is_shipped(Plugin("function calculate() {}"))


def test_track_length_of_few_points() -> None:
    point = {"geometry": {"coordinates": [9.0, 47.0]}}
    north = {"geometry": {"coordinates": [9.0, 48.0]}}
    assert track_length({"features": []}) == 0
    assert track_length({"features": [point]}) == 0
    assert track_length({"features": [point, point]}) == pytest.approx(0, abs=1)
    assert track_length({"features": [point, north]}) == pytest.approx(6371000 * 3.141592653589793 / 180)
