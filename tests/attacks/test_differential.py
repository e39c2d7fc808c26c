"""A plugin's answers do not depend on which hostile plugins ran before in the same worker, nor on how they ended."""

from __future__ import annotations

import dataclasses
import random

import parallel_exec as px
from tests.attacks.attack import PATIENT, PLUGIN, PREPARING
from tests.attacks.test_interrupt import STOPPED
from tests.attacks.test_memory import GREEDY
from tests.attacks.test_pollution import BODIES

PROBE = px.Plugin(
    """
const memory = new Map(), list = [];
let last = null;
function probe(d) {
    list.push(d.n); memory.set(d.n, d); last = {...d, last};
    const sorted = d.words.slice().sort((a, b) => a.length - b.length), keys = [];
    for (const key in {...d, z: 1, 1: 1, a: 1}) keys.push(key);
    return {
        state: [list.length, memory.size, last.last, typeof leaked, ({}).polluted, Reflect.ownKeys(globalThis).length],
        text: JSON.stringify(d), parsed: JSON.parse('{"b":[1,{"c":2}],"a":"x"}'), sorted, keys,
        numbers: [Math.random(), Date.now(), Math.sin(d.n), d.n ** 0.5, (d.n / 7).toFixed(5), 0.1 + d.n, 2n ** BigInt(d.n % 90) + ''],
        words: d.words.map(w => w.replace(/(\\w)(\\w*)/g, (_, a, b) => b + a).toUpperCase().normalize()),
        matches: [...d.words.join(' ').matchAll(/(?<first>[aeiou])\\w/g)].map(m => [m.index, m.groups.first]),
        stack: (() => { try { null.x } catch (e) { return e.stack } })(),
        buffer: [...new Uint8Array(new Float64Array([d.n, -d.n / 3]).buffer)],
        depth: (function f(n) { try { return f(n + 1) } catch { return n } })(0) > 100,
    };
}
""",
    name="probe.js",
)
PINNED = dataclasses.replace(PREPARING, time_s=0.05, memory_bytes=PATIENT.memory_bytes, seed=11, time=1.7e9)
HOSTILE = [body for family in (STOPPED, GREEDY, BODIES) for body in family.values()]
DOCUMENTS = 1000


def documents() -> list[dict[str, object]]:
    draw = random.Random(7)
    words = ["able", "über", "x", "日本", "onion", "\U0001f600", "Zed", ""]
    return [
        {"n": n, "words": draw.sample(words, draw.randrange(1, 8)), "f": draw.random() * 10 ** draw.randrange(-9, 9)}
        for n in range(DOCUMENTS)
    ]


def test_answers_do_not_depend_on_what_ran_before() -> None:
    probe = PROBE.function("probe", output="bytes")
    with px.Sandbox(PROBE, limits=PINNED) as sandbox:
        expected = [sandbox.call_bytes("probe", document) for document in documents()]
    draw = random.Random(13)
    hostile = PLUGIN.function("attack", output="bytes")
    with px.Pool(1, limits=PINNED) as pool:  # one worker: what ran before ran in the same process
        found = []
        ended = 0
        for document in documents():
            # Most of the hostile plugins run until their time is up.
            attack = pool.submit(hostile, draw.choice(HOSTILE)) if draw.random() < 0.1 else None
            found.append(pool.submit(probe, document))
            if attack is not None:
                ended += attack.exception(timeout=60) is not None
        assert [future.result(timeout=60) for future in found] == expected
        assert ended > 20


def test_answers_do_not_depend_on_the_order_of_the_documents() -> None:
    order = list(enumerate(documents()))
    random.Random(5).shuffle(order)
    with px.Sandbox(PROBE, limits=PINNED) as sandbox:
        expected = [sandbox.call_bytes("probe", document) for document in documents()]
        for n, document in order:
            assert sandbox.call_bytes("probe", document) == expected[n]
