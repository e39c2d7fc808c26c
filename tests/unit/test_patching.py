"""Patches to the pinned sources fit exactly, or say where they do not."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "patching.py"
PATCHES = Path(__file__).resolve().parents[2] / "parallel_exec" / "guest" / "patches"


def load_script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("patching", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


patching = load_script()

SOURCE = "one\ntwo\nthree\nfour\nfive\n"
HEAD = "Because.\n\n--- a/x/f.c\n+++ b/x/f.c\n"


def apply(*bodies: str, source: str = SOURCE) -> str:
    patches = {f"{index}.patch": HEAD + body for index, body in enumerate(bodies)}
    (text,) = patching.apply(patches, {"x/f.c": source, "x/g.c": "other\n"}).values()
    return str(text)


def test_lines_are_replaced_inserted_and_deleted() -> None:
    assert apply("@@ -1,2 +1,2 @@\n one\n-two\n+2\n@@ -4 +4,2 @@\n four\n+4.5\n") == "one\n2\nthree\nfour\n4.5\nfive\n"
    assert apply("@@ -2 +1,0 @@\n-two\n") == "one\nthree\nfour\nfive\n"
    assert apply("@@ -2,0 +3 @@\n+2.5\n") == "one\ntwo\n2.5\nthree\nfour\nfive\n"
    assert apply("@@ -0,0 +1 @@\n+zero\n") == "zero\n" + SOURCE


def test_each_patch_is_made_from_the_unpatched_source() -> None:
    earlier, later = "@@ -1 +1,3 @@\n one\n+1.3\n+1.6\n", "@@ -4 +4 @@\n-four\n+4\n"
    assert apply(earlier, later) == apply(later, earlier) == "one\n1.3\n1.6\ntwo\nthree\n4\nfive\n"


def test_one_patch_changes_several_files_and_says_nothing_of_others() -> None:
    patch = HEAD + "@@ -5 +5 @@\n-five\n+5\n--- a/x/g.c\n+++ b/x/g.c\n@@ -1 +1 @@\n-other\n+more\n"
    sources = {"x/f.c": SOURCE, "x/g.c": "other\n", "x/h.c": ""}
    assert patching.apply({"p": patch}, sources) == {"x/f.c": SOURCE.replace("five", "5"), "x/g.c": "more\n"}


def test_a_deleted_line_may_look_like_the_header_of_a_file() -> None:
    assert apply("@@ -1 +1 @@\n--- a/two\n+2\n", source="-- a/two\n") == "2\n"


@pytest.mark.parametrize(
    ("body", "source"),
    [
        ("@@ -1,2 +1,2 @@\n one\n-two\n+2\n", "zero\n" + SOURCE),  # it would fit one line further down
        ("@@ -1,2 +1,2 @@\n one\n-two\n+2\n", "one\ntwo \nthree\n"),  # other white space
        ("@@ -1,2 +1,2 @@\n one\n-two\n+2\n", "one"),  # the end
    ],
)
def test_a_hunk_that_does_not_fit_names_patch_file_and_line(body: str, source: str) -> None:
    with pytest.raises(patching.PatchError, match=r"^0\.patch:5: x/f\.c, line [12] is .*, not '(one|two)'$"):
        apply(body, source=source)


def test_a_patch_of_a_missing_file_is_refused() -> None:
    with pytest.raises(patching.PatchError, match=r"p:5: there is no x/f\.c"):
        patching.apply({"p": HEAD + "@@ -1 +1 @@\n-a\n+b\n"}, {})


def test_patches_that_overlap_are_refused() -> None:
    with pytest.raises(patching.PatchError, match=r"1\.patch:5: overlaps with 0\.patch:5 in x/f\.c, line 2"):
        apply("@@ -1,2 +1,2 @@\n one\n-two\n+2\n", "@@ -2,2 +2,2 @@\n two\n-three\n+3\n")


@pytest.mark.parametrize(
    ("patch", "message"),
    [
        ("", "p:1: a patch is the reason"),
        ("Only words.\n", "p:1: a patch is the reason"),
        ("--- a/x/f.c\n+++ b/x/f.c\n@@ -1 +1 @@\n-one\n+1\n", "p:1: a patch is the reason"),
        ("Why.\n--- a/x/f.c\n+++ b/x/g.c\n@@ -1 +1 @@\n-one\n+1\n", "p:2: neither"),
        ("Why.\n--- a/x/f.c\n", "p:2: neither"),
        (HEAD + "@@ -1 +1\n-one\n+1\n", "p:5: neither"),
        (HEAD + "@@ -1 +1 @@\n-one\n+1\n two\n", "p:8: neither"),
        (HEAD + "@@ -1,2 +1,2 @@\n-one\n+1\n", r"p:5: the hunk for x/f\.c, line 1, is shorter"),
        (HEAD + "@@ -1,2 +1,2 @@\n-one\n+1\n\n", r"p:5: the hunk for x/f\.c, line 1, is shorter"),
        (HEAD + "@@ -1 +1,2 @@\n-one\n-two\n+1\n+2\n", r"p:5: the hunk for x/f\.c, line 1, does not have"),
    ],
)
def test_a_malformed_patch_is_refused(patch: str, message: str) -> None:
    with pytest.raises(patching.PatchError, match=message):
        patching.apply({"p": patch}, {"x/f.c": SOURCE})


def test_the_guests_patches_are_small_and_say_why() -> None:
    patches = {path.name: path.read_text(encoding="utf-8") for path in PATCHES.iterdir()}
    assert patches
    for name, patch in patches.items():
        for hunk in patching.read_hunks(name, patch):
            assert len(hunk.old) <= 5, f"{hunk.where}: more of the original's text than a hunk needs"
