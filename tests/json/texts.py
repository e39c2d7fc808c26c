"""Random JSON texts: valid ones, documents whose objects are alike, or nearly so, and damaged ones."""

from __future__ import annotations

import json
from dataclasses import dataclass

from hypothesis import strategies as st

SPACES = st.sampled_from(
    ["", "", "", "", " ", "\n", "\t", "\r", "\r\n", "  ", " \t\n\r ", " " * 15, " " * 16, "\n" * 33]
)

NUMBERS = [
    "0", "-0", "-0.0", "0.0", "0e0", "-0e5", "1", "-1", "10", "1.0", "-1.50", "1e2", "1E2", "1e+2", "1e-2", "0.1",
    "0.30000000000000004",
    "2147483647", "2147483648", "-2147483648", "-2147483649", "4294967295", "4294967296", "9007199254740991",
    "9007199254740992",
    "9007199254740993", "-9007199254740993", "9223372036854775807", "9223372036854775808", "-9223372036854775808",
    "18446744073709551615", "18446744073709551616", "999999999999999999", "9999999999999999999",
    "123456789012345678901234567890",
    "1e21", "1e-6", "1e-7", "123456789012345680000", "1234567890123456800000", "1e400", "-1e400", "1e-400", "-1e-400",
    "1.7976931348623157e308", "1.7976931348623158e308", "1.7976931348623159e308", "2.2250738585072014e-308",
    "2.2250738585072011e-308", "5e-324", "2.4703282292062327e-324", "2.4703282292062328e-324",
    "4.9406564584124654e-324", "0e400",
    "0e99999999999", "1e99999999999999999999", "1e-99999999999999999999", "0." + "0" * 400 + "1", "1" + "0" * 400,
    "0." + "1" * 800,
    "1" * 309, "1" * 310, "9" * 5000, "9007199254740992." + "9" * 30, "9007199254740993." + "0" * 800,
    "9007199254740993." + "0" * 800 + "1",
    "8.12345678901234567", "47.12345678901234", "-122.41941550000001", "0.000001", "0.0000001", "100000000000000000000",
    "12345678.12345678", "123.4567890123456789", "1.2345678901234567890123", "0.1234567890123456789",
    "1234567890.12345678",
    "12345678901.123456789", "123456789012345678.5",
]  # fmt: skip

DAMAGED_NUMBERS = [
    "01", "-", "-01", "00", "1.", ".5", "+1", "1e", "1e+", "1E-", "--1", "1.e5", "1..2", "1.2.3", "0x10", "1_000",
    "Infinity", "-Infinity",
    "NaN", "-NaN", "nan", "inf", "-inf", "1e5.5", "1f", "0b1", "1n", "-.5", "1e 5", "- 1", "123456789012345678901.",
    "0.e1", "-a",
]  # fmt: skip


def number_texts() -> st.SearchStrategy[str]:
    """Texts of numbers as JSON has them."""
    digits = st.text("0123456789", min_size=1, max_size=25)
    whole = st.one_of(st.just("0"), st.integers(1, 10**25).map(str), st.integers(0, 999).map(str))
    return st.one_of(
        st.sampled_from(NUMBERS),
        st.floats(allow_nan=False, allow_infinity=False).map(repr),
        st.integers(-(2**70), 2**70).map(str),
        st.builds(
            "{}{}{}{}".format,
            st.sampled_from(["", "-"]),
            whole,
            st.one_of(st.just(""), digits.map(lambda text: "." + text)),
            st.one_of(st.just(""), st.just(""), st.builds("{}{}{}".format, st.sampled_from("eE"), st.sampled_from(["",
            "+", "-"]), st.integers(0, 400))),
        ),
    )  # fmt: skip


CHARACTERS = st.one_of(
    st.sampled_from('abcxyz0189 _-/"\\\b\f\n\r\t\x00\x1f\x7f\x80\xff\u0100\u07ff\u0800\u2028\ud7ff'),
    st.sampled_from("\ue000\ufeff\uffff\U00010000\U0010ffff"),
    st.characters(codec="utf-8"),
    st.characters(min_codepoint=0x20, max_codepoint=0x7E),
)
CONTENTS = st.one_of(
    st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=12),
    st.text(CHARACTERS, max_size=8),
    st.builds(lambda text, count: text * count, st.text(CHARACTERS, min_size=1, max_size=4), st.sampled_from([5, 15,
    16, 17, 31, 32, 33, 50, 1000])),
    st.sampled_from(["", "Feature", "type", "a" * 13, "a" * 14, "a" * 15, "a" * 16, "a" * 30, "a" * 46, "a" * 47,
    "\u20ac" * 40, "\U0001f600" * 20]),
)  # fmt: skip

ESCAPES = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def quote(content: str, style: int) -> str:
    """The content as JSON string: style 0 has few escapes, 1 is that of Python's json, 2 all escapes, 3 every other."""
    if style == 1:
        return json.dumps(content)
    units: list[str] = []
    for index, character in enumerate(content):
        if style == 2 or (style == 3 and index % 2):
            utf16 = character.encode("utf-16-be", "surrogatepass")
            units += [f"\\u{utf16[i]:02x}{utf16[i + 1]:02X}" for i in range(0, len(utf16), 2)]
        elif character in ESCAPES:
            units.append(ESCAPES[character])
        elif character < " ":
            units.append(f"\\u{ord(character):04x}")
        else:
            units.append(character)
    return '"' + "".join(units) + '"'


STRING_TEXTS = st.one_of(
    st.builds(quote, CONTENTS, st.sampled_from([0, 0, 0, 1, 2, 3])),
    st.sampled_from([
        '"\\ud800"', '"\\udc00"', '"\\ud83d\\ude00"', '"\\ude00\\ud83d"', '"\\ud800\\ud800\\udc00"',
        '"\\ud800x\\udc00"', '"\\/"', '"\\u0000"',
        '"\\uD800\\u0041"', '"\\ud83d\U0001f600"', '"\\u00e9\\u00ff"', '"\\u0100"', '"\x7f"', '"\u2028\u2029"', '"/"',
        '"\\u000A"',
    ]),
)  # fmt: skip

KEYS = st.one_of(
    STRING_TEXTS,
    st.sampled_from([
        '"type"', '"id"', '"a"', '"b"', '"c"', '""', '"__proto__"', '"\\u005f_proto__"', '"toJSON"', '"constructor"',
        '"length"', '"0"', '"1"', '"10"',
        '"2"', '"01"', '"-1"', '"-0"', '"1.5"', '"4294967294"', '"4294967295"', '"4294967296"', '"2147483647"',
        '"2147483648"', '"1e3"', '"\\u0061"', '"\u00e9"',
        '"prototype"', '"hasOwnProperty"', '"' + "k" * 46 + '"', '"' + "k" * 47 + '"', '"' + "k" * 300 + '"',
        '"\u20ac"', '" a"', '"a "', '"Infinity"', '"NaN"',
    ]),
)  # fmt: skip

SCALARS = st.one_of(st.sampled_from(["null", "true", "false"]), number_texts(), STRING_TEXTS)


def array_text(items: list[str], spaces: list[str]) -> str:
    """The texts as an array, with white space between the tokens."""
    s = (spaces * 3)[:3]
    return "[" + s[0] + f"{s[1]},{s[2]}".join(items) + s[1] + "]"


def object_text(members: list[tuple[str, str]], spaces: list[str]) -> str:
    """The texts as an object, with white space between the tokens."""
    s = (spaces * 4)[:4]
    return "{" + s[0] + f"{s[3]},{s[0]}".join(f"{key}{s[1]}:{s[2]}{value}" for key, value in members) + s[3] + "}"


SPACING = st.one_of(st.just([""]), st.just([""]), st.lists(SPACES, min_size=1, max_size=4))


def nested(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Arrays and objects of what `inner` gives."""
    return st.one_of(
        st.builds(array_text, st.lists(inner, max_size=6), SPACING),
        st.builds(object_text, st.lists(st.tuples(KEYS, inner), max_size=6), SPACING),
    )


def around(text: str, before: str, after: str) -> str:
    """The text with white space at both ends."""
    return before + text + after


VALID = st.builds(around, st.one_of(SCALARS, st.recursive(SCALARS, nested, max_leaves=25)), SPACES, SPACES)


@st.composite
def kinds(draw: st.DrawFn) -> str:
    """An array of objects of one kind: mostly the same keys, sometimes one left out, added, swapped or doubled."""
    keys = draw(st.lists(KEYS, min_size=1, max_size=6))
    values = [draw(st.one_of(SCALARS, nested(SCALARS), nested(nested(SCALARS)))) for _ in keys]
    spacing = draw(SPACING)
    objects: list[str] = []
    for _ in range(draw(st.integers(1, 12))):
        members = list(zip(keys, values, strict=True))
        at = draw(st.integers(0, len(members) - 1))
        change = draw(
            st.sampled_from(["", "", "", "cut", "drop", "add", "swap", "double", "value", "repeat", "relearn"])
        )
        if change == "cut":
            members = members[:at]
        elif change == "drop":
            del members[at]
        elif change == "add":
            members.insert(at, (draw(KEYS), draw(SCALARS)))
        elif change == "swap":
            members.append(members.pop(at))
        elif change == "double":
            members.append((members[at][0], draw(SCALARS)))
        elif change == "value":
            members[at] = (members[at][0], draw(nested(SCALARS)))
        elif change == "relearn":  # the place changes its mind after some in a row
            keys = [*keys[:at], draw(KEYS), *keys[at:]]
            values = [*values[:at], draw(SCALARS), *values[at:]]
        objects += [object_text(members, spacing)] * (6 if change in ("repeat", "relearn") else 1)
    return array_text(objects, spacing)


@dataclass(frozen=True)
class Damage:
    """One change to a text: where, as a fraction of its length, and what."""

    where: float
    how: str
    byte: str

    def apply(self, text: str) -> str:
        at = int(self.where * len(text))
        match self.how:
            case "change":
                return text[:at] + self.byte + text[at + 1 :]
            case "insert":
                return text[:at] + self.byte + text[at:]
            case "delete":
                return text[:at] + text[at + 1 :]
            case "cut":
                return text[:at]
            case "double":
                return text + text
            case "piece":
                return text[:at] + text[max(0, at - 5) :]
        raise AssertionError(self.how)


WRONG_BYTES = st.one_of(
    st.sampled_from('{}[]",:\\0123456789-+.eEtfnul \t\n\r\x00\x0b\x0c\x1f/\'\u00a0\ufeff\u2028\x7f\u00e9'),
    st.characters(max_codepoint=0x2FF),
)  # fmt: skip
DAMAGE = st.builds(
    Damage,
    st.floats(0, 1, exclude_max=True),
    st.sampled_from(["change", "change", "insert", "delete", "cut", "double", "piece"]),
    WRONG_BYTES,
)
HAND_DAMAGED = st.sampled_from([
    "", " ", "\ufeff1", "\ufeff", "[", "]", "{", "}", "[1,]", "[,1]", "[1,,2]", '{"a"}', '{"a":}', '{"a":1,}', "{,}",
    "{a:1}", "{'a':1}", "{1:1}", '{"a" 1}',
    '{"a":1 "b":2}', "[1 2]", "tru", "nul", "fals", "True", "truex", "nullnull", "true1", '"', '"\\', '"\\u',
    '"\\u12', '"\\u12G4"', '"\\x41"', '"\\\u00e9"', '"a\nb"', '"\t"',
    "'a'", "undefined", "1 1", "[1]]", "{}}", '{"a":1}x', "//", "/**/1", "1//", "\x0b1", "\x0c1", "\u00a01",
    "1\u2028", "[1\x00]", '"\x00"', "1\x00", "\x00", '{"a":1,"a"}',
    "tr\\u0075e", "\u0660", "1\u0660", "[" * 100, '{"a":' * 100, "[1" + ",1" * 100, "nulL", "falsey", "t", "f", "n",
    '["a', '{"a', '{"a"', '{"a":', '{"a":1', '{"a":1,',
])  # fmt: skip

DAMAGED = st.one_of(
    st.builds(lambda text, damage: damage.apply(text), st.one_of(VALID, kinds()), DAMAGE),
    st.builds(lambda number, wrap: wrap.format(number), st.sampled_from(DAMAGED_NUMBERS), st.sampled_from(["{}",
    "[{}]", '{{"a":{}}}', " {} ", "[1,{} ]"])),
    HAND_DAMAGED,
)  # fmt: skip

LONE = st.builds(
    lambda text, at, unit: text[: int(at * len(text))] + unit + text[int(at * len(text)) :],
    VALID,
    st.floats(0, 1),
    st.sampled_from(["\ud800", "\udfff", "\udbff\ud800"]),
)
ANY = st.one_of(VALID, kinds(), kinds(), DAMAGED, LONE)
BATCHES = st.lists(ANY, min_size=1, max_size=12)
