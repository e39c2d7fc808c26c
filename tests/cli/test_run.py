"""`pexec run`: what comes out for which documents."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from tests.cli.command import Pexec
from tests.wasm.modules import GUEST, module

SEVERAL = "it holds several documents; use --lines to read one per line"
DOCUMENTS = b'{"a":1}\n\n{"bad":"dog"}\n{"a":\n{"a":[2]}\n'


@pytest.fixture
def lines_file(tmp_path: Path) -> str:
    (tmp_path / "docs.ndjson").write_bytes(DOCUMENTS)
    return "docs.ndjson"


def test_every_file_is_a_document_and_results_keep_the_order(pexec: Pexec, plugin: str, tmp_path: Path) -> None:
    names = []
    for number in range(5):
        names.append(f"{number}.json")
        (tmp_path / names[-1]).write_text(f'{{\n"a": {{"n": {number}}}\n}}')
    ran = pexec("run", plugin, *reversed(names), "--function", "pick")
    assert ran.status == 0
    assert ran.err == ""
    assert ran.out == "".join(f'{{"n":{number}}}\n' for number in reversed(range(5)))


@pytest.mark.parametrize("files", [(), ("-",)])
def test_stdin_is_one_document(pexec: Pexec, plugin: str, files: tuple[str, ...]) -> None:
    assert pexec("run", plugin, *files, stdin=b'{"a":\n 3}').out == "3\n"


def test_stdin_by_lines(pexec: Pexec, plugin: str) -> None:
    assert pexec("run", plugin, "--lines", stdin=b'{"a":1}\r\n  \n{"a":"x"}').out == '1\n"x"\n'


def test_no_document_is_no_result(pexec: Pexec, plugin: str, tmp_path: Path) -> None:
    ran = pexec("run", plugin, "--lines", "-o", "out", stdin=b"\n\n")
    assert ran.status == 0
    assert (tmp_path / "out").read_bytes() == b""


def test_a_failing_document_is_told_by_its_index_and_stops_nothing(
    pexec: Pexec, plugin: str, lines_file: str, tmp_path: Path
) -> None:
    ran = pexec("run", plugin, lines_file, "--lines", "-o", "out")
    assert ran.status == 1
    assert (tmp_path / "out").read_text() == "1\n[2]\n"
    first, second, summary = ran.lines
    assert first.startswith(
        "pexec: error: document 1 (docs.ndjson line 3): pick.js: pick(): TypeError: no dog (at pick.js:"
    )
    assert second.startswith("pexec: error: document 2 (docs.ndjson line 4): pick.js: pick(): the document is not JSON")
    assert "at byte 5" in second
    assert summary == "pexec: error: 2 of 4 documents failed"


def test_failed_as_keeps_a_line_for_each_document(pexec: Pexec, plugin: str, lines_file: str) -> None:
    assert pexec("run", plugin, lines_file, "--lines", "--failed-as", '{"failed": true}').out.splitlines() == [
        "1",
        '{"failed": true}',
        '{"failed": true}',
        "[2]",
    ]


def test_failed_as_must_be_json(pexec: Pexec, plugin: str, lines_file: str) -> None:
    ran = pexec("run", plugin, lines_file, "--lines", "--failed-as", "oops")
    assert ran.status == 2
    assert ran.out == ""


def test_fail_fast_stops_and_writes_nothing(pexec: Pexec, plugin: str, lines_file: str, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("before")
    ran = pexec("run", plugin, lines_file, "--lines", "--fail-fast", "-o", "out")
    assert ran.status == 1
    assert len(ran.lines) == 1
    assert "document 1 " in ran.lines[0]
    assert (tmp_path / "out").read_text() == "before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["docs.ndjson", "out", "pick.js"]


def test_nothing_is_written_where_nothing_succeeds(pexec: Pexec, plugin: str, tmp_path: Path) -> None:
    ran = pexec("run", plugin, "--lines", "-o", "out", stdin=b"{}}\n")
    assert ran.status == 1
    assert [path.name for path in tmp_path.iterdir()] == ["pick.js"]


def test_a_byte_order_mark_is_no_part_of_a_document(pexec: Pexec, plugin: str, tmp_path: Path) -> None:
    (tmp_path / "doc.json").write_bytes(b'\xef\xbb\xbf{"a":\n1}')
    (tmp_path / "docs.ndjson").write_bytes(b'\xef\xbb\xbf{"a":2}\r\n{"a":3}\r\n')
    assert pexec("run", plugin, "doc.json").out == "1\n"
    assert pexec("run", plugin, "docs.ndjson", "--lines").out == "2\n3\n"


def test_lines_may_begin_with_record_separators(pexec: Pexec, plugin: str) -> None:
    assert pexec("run", plugin, "--lines", stdin=b'\x1e{"a":1}\n\x1e{"a":2}\n\x1e\n').out == "1\n2\n"


@pytest.mark.parametrize("text", [b'{"a":1}\n{"a":2}\n', b"\n1\n\n[2]", b'{"a":1}\r\noops', b'\x1e{"a":1}\n'])
def test_several_documents_where_one_is_expected_are_told(pexec: Pexec, plugin: str, text: bytes) -> None:
    ran = pexec("run", plugin, stdin=text)
    assert (ran.status, ran.out) == (1, "")
    assert ran.lines == [f"pexec: error: document 0 (stdin): {SEVERAL}"]


@pytest.mark.parametrize("text", [b'{"a":1}\n\n \r\n', b'{"a":\n1}\n', b'\n{\n"a"\n:1}'])
def test_one_document_may_have_lines(pexec: Pexec, plugin: str, text: bytes) -> None:
    assert pexec("run", plugin, stdin=text).out == "1\n"


@pytest.mark.parametrize("text", [b"[1,\n2] 3", b"[1]\n]", b"[1\n"])
def test_documents_that_are_cut_or_go_on_fail(pexec: Pexec, plugin: str, text: bytes) -> None:
    assert pexec("run", plugin, stdin=text).status == 1


def test_a_module_takes_json_and_gives_it(pexec: Pexec, tmp_path: Path) -> None:
    (tmp_path / "echo.wasm").write_bytes(module(GUEST))
    documents = b'{"a":[1,"x",null]}\n{"a":\n2.5\n'
    ran = pexec("run", "echo.wasm", "--function", "echo", "--lines", stdin=documents)
    assert (ran.status, ran.out) == (1, '{"a":[1,"x",null]}\n2.5\n')
    assert "document 1 (stdin line 2): echo.wasm: echo(): the document is not JSON" in ran.lines[0]
    (tmp_path / "one.json").write_bytes(b"[1]")
    assert pexec("run", "echo.wasm", "one.json", "--function", "echo", "--watch").out == "[1]\n"


def test_a_modules_function_has_to_be_named(pexec: Pexec, tmp_path: Path) -> None:
    (tmp_path / "echo.wasm").write_bytes(module(GUEST))
    ran = pexec("run", "echo.wasm", stdin=b"[1]")
    assert ran.status == 2
    assert ran.lines == ["pexec: error: --function is needed for a WebAssembly module: its functions cannot be listed"]


def test_unreadable_files_are_failing_documents(pexec: Pexec, plugin: str, tmp_path: Path) -> None:
    (tmp_path / "good.json").write_text('{"a": 1}')
    (tmp_path / "folder").mkdir()
    ran = pexec("run", plugin, "missing.json", "good.json", "folder")
    assert ran.status == 1
    assert ran.out == "1\n"
    assert ran.lines[0] == "pexec: error: document 0 (missing.json): cannot read it: No such file or directory"
    assert ran.lines[1] == "pexec: error: document 2 (folder): cannot read it: Is a directory"


def test_what_a_plugin_says_cannot_break_the_line_or_command_the_terminal(pexec: Pexec, tmp_path: Path) -> None:
    (tmp_path / "evil.js").write_text(r'const f = d => { throw new Error("a\n\u001b[2Jb\u009b" + "x".repeat(5000)) }')
    (line,) = pexec("run", "evil.js", stdin=b"1").lines
    assert r"a \x1b[2Jb\x9bxxx" in line
    assert len(line) < 1100


def test_console_warnings_cannot_either(pexec: Pexec, tmp_path: Path) -> None:
    (tmp_path / "loud.js").write_text(r'const f = d => { console.warn("a\n\u001b[2Jb"); return d }')
    ran = pexec("run", "loud.js", stdin=b"1")
    assert ran.out == "1\n"
    assert ran.lines == [r"pexec: warning: a \x1b[2Jb"]


class TestFunction:
    def test_the_only_one_is_called(self, pexec: Pexec, plugin: str) -> None:
        ran = pexec("run", plugin, stdin=b'{"a": 1}')
        assert ran.out == "1\n"
        assert ran.err == "pexec: note: --function is not given; calling pick()\n"

    def test_of_several_the_one_named_as_the_fixture_is(self, pexec: Pexec, tmp_path: Path) -> None:
        (tmp_path / "p.mjs").write_text("export const f = () => 1; export function calculate() { return 2 }")
        assert pexec("run", "p.mjs", stdin=b"0").out == "2\n"

    def test_of_several_others_none(self, pexec: Pexec, tmp_path: Path) -> None:
        (tmp_path / "p.js").write_text("const f = () => 1, x = 3; function g() { return 2 }")
        ran = pexec("run", "p.js", stdin=b"0")
        assert (ran.status, ran.out) == (2, "")
        assert ran.err == "pexec: error: --function is needed: p.js has f, g\n"

    @pytest.mark.parametrize("name", ["g", "x y", "pick()", "Math", "a" * 300])
    def test_one_that_is_not_there_is_told_before_any_document_is_read(
        self, pexec: Pexec, plugin: str, name: str
    ) -> None:
        ran = pexec("run", plugin, "missing.json", "--function", name)
        assert ran.status == 1
        assert ran.err == f"pexec: error: pick.js: the plugin has no function {name!r}; it has pick\n"

    def test_a_plugin_without_any(self, pexec: Pexec, tmp_path: Path) -> None:
        (tmp_path / "p.mjs").write_text("export const x = 3")
        ran = pexec("run", "p.mjs", stdin=b"0")
        assert ran.status == 1
        assert "has no function" in ran.err

    @pytest.mark.parametrize(
        "source",
        [
            "globalThis.eval = null; Object.keys = () => ['x']; const f = d => 1",
            "Array.prototype.filter = () => 3; Object.prototype.x = function () {}; function f(d) { return 1 }",
            "Object.keys = () => { for (;;) ; }; Function.prototype.toString = null; const f = d => 1",
            "const list = 1, has = 2, f = d => 1",
        ],
    )
    @pytest.mark.parametrize("name", ["p.js", "p.mjs"])
    def test_a_plugin_that_breaks_the_library_is_called_all_the_same(
        self, pexec: Pexec, tmp_path: Path, source: str, name: str
    ) -> None:
        if name == "p.mjs":
            source += "; export { f }"
        (tmp_path / name).write_text(source)
        named = pexec("run", name, "--function", "f", stdin=b"0")
        assert (named.status, named.out, named.lines) == (0, "1\n", [])
        found = pexec("run", name, stdin=b"0")  # it may mislead us about which functions it has, but no more than that
        assert "internal error" not in found.err
        assert found.status in (0, 2)

    def test_names_that_are_no_identifiers(self, pexec: Pexec, tmp_path: Path) -> None:
        (tmp_path / "p.js").write_text("globalThis['a-b'] = d => 1; const größe = d => 2, $ж = d => 3")
        for name, result in (("a-b", "1\n"), ("größe", "2\n"), ("$ж", "3\n")):
            assert pexec("run", "p.js", "--function", name, stdin=b"0").out == result
        for name in ("if", "a b", "f;f", "'", "\\"):
            assert pexec("run", "p.js", "--function", name, stdin=b"0").status == 1


class TestOutput:
    def test_a_new_file_is_readable_as_files_are(self, pexec: Pexec, plugin: str, tmp_path: Path) -> None:
        pexec("run", plugin, "-o", "out", stdin=b'{"a": 1}')
        (tmp_path / "other").touch()
        assert (tmp_path / "out").stat().st_mode == (tmp_path / "other").stat().st_mode

    def test_an_old_file_keeps_its_mode(self, pexec: Pexec, plugin: str, tmp_path: Path) -> None:
        (tmp_path / "out").write_text("before")
        (tmp_path / "out").chmod(0o640)
        assert pexec("run", plugin, "-o", "out", stdin=b'{"a": 1}').status == 0
        assert (tmp_path / "out").read_text() == "1\n"
        assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o640

    def test_a_link_stays_one(self, pexec: Pexec, plugin: str, tmp_path: Path) -> None:
        (tmp_path / "out").symlink_to("target")
        pexec("run", plugin, "-o", "out", stdin=b'{"a": 1}')
        assert (tmp_path / "out").is_symlink()
        assert (tmp_path / "target").read_text() == "1\n"

    def test_devices_are_written_not_replaced(self, pexec: Pexec, plugin: str) -> None:
        assert pexec("run", plugin, "-o", os.devnull, stdin=b'{"a": 1}').status == 0
        assert stat.S_ISCHR(Path(os.devnull).stat().st_mode)

    def test_the_input_may_be_the_output(self, pexec: Pexec, plugin: str, tmp_path: Path) -> None:
        (tmp_path / "doc").write_text('{"a": 1}\n{"a": 2}')
        assert pexec("run", plugin, "doc", "--lines", "-o", "doc").status == 0
        assert (tmp_path / "doc").read_text() == "1\n2\n"

    @pytest.mark.parametrize(("out", "why"), [("no/such/folder", "No such file or directory"), (".", "Is a directory")])
    def test_what_cannot_be_written_is_told_before_anything_runs(
        self, pexec: Pexec, plugin: str, tmp_path: Path, out: str, why: str
    ) -> None:
        ran = pexec("run", plugin, "-o", out, stdin=b"not JSON")
        assert ran.status == 1
        assert ran.lines == [f"pexec: error: cannot write {out}: {why}"]
        assert [path.name for path in tmp_path.iterdir()] == ["pick.js"]

    def test_a_full_disk_leaves_what_was_there(self, pexec: Pexec, plugin: str) -> None:
        if not Path("/dev/full").exists():
            pytest.skip("no /dev/full")
        ran = pexec("run", plugin, "-o", "/dev/full", stdin=b'{"a": 1}')
        assert ran.status == 1
        assert ran.lines == ["pexec: error: cannot write /dev/full: No space left on device"]


def test_a_time_limit(pexec: Pexec, tmp_path: Path) -> None:
    (tmp_path / "p.js").write_text("function f(d) { while (d) ; return 0 }")
    ran = pexec("run", "p.js", "--lines", "--time-limit", "0.05", stdin=b"true\nfalse")
    assert (ran.status, ran.out) == (1, "0\n")
    assert ran.lines[0].startswith("pexec: error: document 0 (stdin line 1): p.js: f(): still running after")


def test_a_memory_limit(pexec: Pexec, tmp_path: Path) -> None:
    (tmp_path / "p.js").write_text("function f(d) { return new Uint8Array(d).length }")
    ran = pexec("run", "p.js", "--lines", "--memory-limit", "8M", stdin=b"1000\n20000000")
    assert (ran.status, ran.out) == (1, "1000\n")
    assert "document 1 (stdin line 2)" in ran.lines[0]
