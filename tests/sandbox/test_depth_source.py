"""Deeply nested source, of JavaScript and of regular expressions, is a RangeError or a SyntaxError, never a trap."""

from __future__ import annotations

import pytest

import parallel_exec as px
from tests.sandbox.recursion import check, outcome, sandbox

__all__ = ["sandbox"]

# What is repeated before the middle, the middle, and what is repeated after it.
NESTED = {
    "(": ("(", "1", ")"),
    "[": ("[", "", "]"),
    "{": ("{", "", "}"),
    "object": ("x = {a: ", "1", "}"),
    "unary minus": ("- ", "1", ""),
    "unary not": ("!", "1", ""),
    "unary tilde": ("~", "1", ""),
    "typeof": ("typeof ", "1", ""),
    "void": ("void ", "1", ""),
    "delete": ("delete ", "x", ""),
    "await": ("await ", "1", ""),
    "yield": ("yield ", "1", ""),
    "increment": ("++", "x", ""),
    "new": ("new ", "Object", ""),
    "new call": ("new (", "Object", ")()"),
    "ternary": ("1 ? 2 : ", "3", ""),
    "ternary in the middle": ("1 ? ", "3", ": 2"),
    "arrow": ("x => ", "1", ""),
    "arrow in parentheses": ("(x) => ", "1", ""),
    "arrow with a body": ("x => {", "", "}"),
    "arrow with defaults": ("(x = ", "1", ") => 1"),
    "async arrow": ("async x => ", "1", ""),
    "function": ("function f() {", "", "}"),
    "function expression": ("(function () {", "", "})"),
    "generator": ("function* f() {", "", "}"),
    "class": ("class A { m() {", "", "} }"),
    "class extends": ("class A extends ", "Object", " {}"),
    "class static": ("class A { static {", "", "} }"),
    "class field": ("class A { x = ", "1", "}"),
    "class computed": ("class A { [", "1", "]() {} }"),
    "template": ("`${", "1", "}`"),
    "tagged template": ("x`${", "1", "}`"),
    "member": ("", "x", ".y"),
    "optional member": ("", "x", "?.y"),
    "index": ("", "x", "[0]"),
    "nested index": ("x[", "0", "]"),
    "call": ("", "x", "()"),
    "nested call": ("x(", "", ")"),
    "plus": ("1 + ", "1", ""),
    "power": ("1 ** ", "1", ""),
    "and": ("1 && ", "1", ""),
    "or": ("0 || ", "1", ""),
    "nullish": ("null ?? ", "1", ""),
    "comma": ("1, ", "1", ""),
    "in": ("", "1", " in x"),
    "assignment": ("x = ", "1", ""),
    "compound assignment": ("x += ", "1", ""),
    "logical assignment": ("x &&= ", "1", ""),
    "if": ("if (1) ", ";", ""),
    "if else": ("if (0); else ", ";", ""),
    "while": ("while (0) ", ";", ""),
    "for": ("for (; 0;) ", ";", ""),
    "for of": ("for (x of []) ", ";", ""),
    "do": ("do ", ";", " while (0);"),
    "with": ("with ({}) ", ";", ""),
    "try": ("try {", "", "} catch {}"),
    "finally": ("try {", "", "} finally {}"),
    "switch": ("switch (1) { default: ", "", "}"),
    "destructured array": ("[", "x", "] = []"),
    "destructured object": ("({a: ", "x", "} = {})"),
    "pattern array": ("[", "x", "]"),
    "spread": ("[...", "[]", "]"),
    "computed key": ("x = {[", "1", "]: 1}"),
    "getter": ("x = {get a() { return ", "1", "} }"),
    "import": ("import(", "1", ")"),
    "comment": ("/*", "", "*/"),
    "regular expression": ("/(/", "", "/)/"),
}
PLACES = {
    "eval": "var x; eval({text})",
    "Function": "Function('x', {text})",
    "async generator": "eval('async function* g(x) {{ ' + {text} + ' }}')",
    "pattern": "eval('var ' + {text} + ' = []'); ",
    "parameters": "eval('function f(' + {text} + ') {{}}')",
}
NESTINGS = [100, 1_000, 10_000, 200_000]


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
@pytest.mark.parametrize("parts", NESTED.values(), ids=NESTED)
def test_nested_source(sandbox: px.Sandbox, parts: tuple[str, str, str], place: str) -> None:
    before, middle, after = map(repr, parts)
    text = place.format(text=f"({before}.repeat(n) + {middle} + {after}.repeat(n))")
    for n in NESTINGS:
        # What the source does when it runs, if it compiles, does not matter: it may be a TypeError.
        for code in (text, f"eval({before}.repeat(n))"):
            check(sandbox, f"try {{ {code} }} catch (e) {{ if (/Type|Reference/.test(e.name)) return; throw e }}", n)


@pytest.mark.parametrize("parts", NESTED.values(), ids=NESTED)
def test_nested_plugins(parts: tuple[str, str, str]) -> None:
    before, middle, after = parts
    for n in (1_000, 50_000):
        try:
            px.MemoryImage.capture(before * n + middle + after * n, name="nested.js")
        except px.PluginError as error:
            assert "brings the engine down" not in str(error)


REGULAR_EXPRESSIONS = {
    "groups": ("(", "a", ")"),
    "open groups": ("(", "", ""),
    "plain groups": ("(?:", "a", ")"),
    "named groups": ("(?<a>", "a", ")"),
    "lookahead": ("(?=", "a", ")"),
    "lookbehind": ("(?<=", "a", ")"),
    "negative lookahead": ("(?!", "a", ")"),
    "repeated groups": ("(?:", "a", ")*"),
    "lazy groups": ("(?:", "a", ")??"),
    "counted groups": ("(?:", "a", "){2}"),
    "alternatives": ("a|", "b", ""),
    "nested alternatives": ("(?:a|", "b", ")"),
    "optional letters": ("a?", "b", ""),
    "classes": ("[a]", "", ""),
    "nested classes": ("[", "a", "]"),
    "class differences": ("[a--", "[b]", "]"),
    "class intersections": ("[a&&", "[b]", "]"),
    "modifiers": ("(?i:", "a", ")"),
    "escapes": ("\\\\d", "", ""),
}


@pytest.mark.parametrize("flags", ["", "u", "v", "giy"])
@pytest.mark.parametrize("parts", REGULAR_EXPRESSIONS.values(), ids=REGULAR_EXPRESSIONS)
def test_nested_regular_expressions(sandbox: px.Sandbox, parts: tuple[str, str, str], flags: str) -> None:
    before, middle, after = parts
    pattern = f"'{before}'.repeat(n) + '{middle}' + '{after}'.repeat(n)"
    for n in (10, 100, 1_000, 20_000):
        check(sandbox, f"new RegExp({pattern}, '{flags}').exec('')", n)


def test_long_backtracking_needs_no_stack(sandbox: px.Sandbox) -> None:
    for pattern in ("/^(?:a|b)*$/", "/^(?:(a)|(b))*$/", "/^(?:a|b)*?$/", "/^(?:ab)+c|$/", "/^(a*)*$/"):
        check(sandbox, f"{pattern}.test('ab'.repeat(n))", 100_000)


def test_deep_source_still_compiles(sandbox: px.Sandbox) -> None:
    for parts in (("(", "1", ")"), ("- ", "1", ""), ("[", "", "]"), ("`${", "1", "}`"), ("1 ? 2 : ", "3", "")):
        before, middle, after = map(repr, parts)
        assert outcome(sandbox, f"eval({before}.repeat(n) + {middle} + {after}.repeat(n)); return 7", 100) == "7"
