"""`pexec client`, against a server."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pytest

from parallel_exec.cli.main import dispatch


@dataclass
class Ran:
    status: int
    out: str
    err: str


class Pexec(Protocol):
    """Runs `pexec client` in this process, against the shared server."""

    def __call__(self, *arguments: str, stdin: bytes = b"") -> Ran: ...


@pytest.fixture
def pexec(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, address: str) -> Pexec:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PEXEC_SERVER", address)
    Path("p.js").write_text("function f(d) { if (d.bad) throw new TypeError('no'); return d.a }")

    def run(*arguments: str, stdin: bytes = b"") -> Ran:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        (tmp_path / "stdin").write_bytes(stdin)
        capfd.readouterr()
        status = dispatch(["client", *arguments])
        sys.stdout.flush()
        return Ran(status, *capfd.readouterr())

    return run


@pytest.fixture
def name(pexec: Pexec, request: pytest.FixtureRequest) -> Iterator[str]:
    name = f"cli-{request.node.name}"
    assert pexec("deploy", name, "p.js").out == f"{name}\tversion 1\tp.js\tf\n"
    yield name
    assert pexec("undeploy", name).status == 0


def test_from_deployment_to_statistics(pexec: Pexec, name: str) -> None:
    Path("p.js").write_text("const f = d => [d.a]")
    assert pexec("swap", name, "p.js", "--expect", "1").out == f"{name}\tversion 2\tp.js\tf\n"
    assert f"{name}\tversion 2\tp.js\tf\n" in pexec("list").out
    Path("doc").write_text('{"a": 7}')
    for options in ([], ["--shm"], ["--time-limit", "5", "--memory-limit", "64M"]):
        assert pexec("execute", name, "f", "doc", *options) == Ran(0, "[7]\n", "")
    told = json.loads(pexec("stats").out)
    assert told["jobs"] >= 3 and told["deployments"] >= 1


def test_a_deploy_can_be_repeated_and_replaces_nothing(pexec: Pexec, name: str) -> None:
    for _ in range(2):
        assert pexec("deploy", name, "p.js") == Ran(0, f"{name}\tversion 1\tp.js\tf\n", "")
    Path("p.js").write_text("const f = d => 0")
    refused = f"pexec: error: {name!r} already has another plugin, p.js, as version 1; use swap to replace it\n"
    assert pexec("deploy", name, "p.js") == Ran(1, "", refused)
    assert pexec("swap", name, "p.js", "--expect", "1").status == 0
    assert pexec("deploy", name, "p.js") == Ran(0, f"{name}\tversion 2\tp.js\tf\n", "")


def test_a_stream_of_lines(pexec: Pexec, name: str) -> None:
    Path("docs").write_text("".join(f'{{"a": {n}, "bad": {str(n in (3, 5)).lower()}}}\n' for n in range(10)))
    ran = pexec("stream", name, "f", "docs", "--lines")
    assert ran.status == 1
    assert ran.out == "".join(f"{n}\n" for n in range(10) if n not in (3, 5))
    lines = ran.err.splitlines()
    assert [line.split(": TypeError")[0] for line in lines[:2]] == [
        f"pexec: error: p.js: f(): document {n}" for n in (3, 5)
    ]
    assert lines[2:] == ["pexec: error: 2 of 10 documents failed"]
    Path("good").write_text('{"a": 1}\n{"a": 2}\n')
    ran = pexec("stream", name, "f", "good", "--lines", "--unordered", "--shm", "--window", "1")
    assert (ran.status, ran.err) == (0, "")
    assert sorted(ran.out.splitlines()) == ["0\t1", "1\t2"]


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["execute", "NAME", "nope", "doc"], 1, "p.js: the plugin has no function 'nope'; it has f"),
        (["execute", "NAME", "f", "bad"], 1, "p.js: f(): TypeError: no (at p.js:1:"),
        (["execute", "NAME", "f", "missing"], 1, "document 0 (missing): cannot read it: No such file"),
        (["execute", "none", "f", "doc"], 1, "nothing is deployed as 'none'; there is "),
        (["deploy", "NAME", "other.js"], 1, "already has another plugin, p.js, as version 1; use swap to replace it"),
        (["deploy", "other", "missing.js"], 1, "missing.js: cannot read the plugin: No such file"),
        (["swap", "NAME", "p.js", "--expect", "9"], 1, "version 1 of "),
        (["list", "--server", "127.0.0.1:1"], 1, "Connection refused"),
        (["list", "--server", "127.0.0.1:99999"], 2, "an address is host:port or unix:path; got '127.0.0.1:99999'"),
        (["list", "--server", "foo"], 2, "an address is host:port or unix:path; got 'foo'"),
        (["list", "--server", "unix:nowhere"], 1, "the server cannot be reached, or has gone: "),
        (["list", "--token-file", "two lines"], 2, "a token is text of one line, in ASCII"),
        (["list", "--server", ""], 2, "--server, or the variable PEXEC_SERVER, is needed"),
        (["list", "--token-file", "missing"], 1, "--token-file: cannot read missing"),
        (["stream", "NAME", "f", "--window", "0"], 2, "--window must be at least 1; got 0"),
        (["stream", "NAME", "f", "doc", "missing"], 1, "document 1 (missing): cannot read it: No such file"),
        (["execute", "NAME", "f", "doc", "--time-limit", "0"], 2, "--time-limit must be a number of seconds above 0"),
    ],
)
def test_what_fails_is_said_in_one_line(
    pexec: Pexec, name: str, arguments: Sequence[str], status: int, says: str
) -> None:
    Path("doc").write_text('{"a": 7}')
    Path("bad").write_text('{"bad": true}')
    Path("other.js").write_text("const f = d => 0")
    Path("two lines").write_text("a\nb")
    ran = pexec(*(name if each == "NAME" else each for each in arguments))
    assert ran.status == status
    assert ran.err.count("\n") == 1 and ran.err.startswith("pexec: error: ") and says in ran.err
