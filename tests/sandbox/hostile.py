"""Random hostile JavaScript, composed from a grammar of what a plugin can do to the engine that the next job uses."""

from __future__ import annotations

from hypothesis import strategies as st


def words(text: str) -> list[str]:
    return text.split()


BUILTINS = words("""
    Object Function Array String Number Boolean Symbol BigInt Date RegExp Error TypeError RangeError AggregateError Map
    Set WeakMap WeakSet WeakRef Promise Proxy Reflect JSON Math ArrayBuffer DataView Uint8Array Float64Array
    BigInt64Array FinalizationRegistry Iterator globalThis console parseFloat isNaN encodeURIComponent eval
""")
CONSTRUCTORS = [name for name in BUILTINS if name[0].isupper() and name not in ("Proxy", "Reflect", "JSON", "Math")]
METHODS = words("""
    toString valueOf toJSON constructor then next push map sort join get set has exec test call apply bind length
    message name stack __proto__ Symbol.iterator Symbol.toPrimitive Symbol.hasInstance Symbol.species
    Symbol.asyncIterator
""")

small = st.integers(0, 20)
count = st.integers(0, 3000)
size = st.sampled_from([0, 1, 7, 64, 500, 4096, 70_000, 400_000])
text = st.sampled_from(["", "a", "ä", "日本", "\\ud83d\\ude00", "\\ud800", "toString", "__proto__", "0", "-1"]).map(
    lambda chars: f"'{chars}'"
)
builtin = st.sampled_from(BUILTINS)
constructor = st.sampled_from(CONSTRUCTORS)
member = st.sampled_from(METHODS).map(lambda name: f"[{name}]" if "." in name else f".{name}")

value = st.one_of(
    st.sampled_from(
        words("""
        undefined null true -0 NaN 1e308 0.1 123n (-5n)**301n Symbol() Symbol.iterator Symbol.for('shared') {} []
        [,1,,2] (()=>1) (function(){return(this)}) (class{static(x){}}) /a(b)?/giy new(Date) new(Error)('e')
        new(Map)([[1,2]]) new(Set)('abc') new(Uint8Array)(9) new(Proxy)({},{}) Object.create(null) globalThis
        (async()=>1)() Promise.reject(1) (function*(){yield(1)})() 'x'.repeat(3000) 'ab'.repeat(9)+'c'.repeat(999)
        new(WeakMap) Object.freeze([1,2,3])
        """)
    ),
    text,
    st.integers(-(2**33), 2**33).map(str),
    count.map(lambda n: f"Array.from({{length:{n}}},(_,i)=>({{i,s:'k'+i}}))"),
)


def snippet(template: str, **parts: st.SearchStrategy[object]) -> st.SearchStrategy[str]:
    """Statements with each ``<part>`` replaced by what its strategy draws."""

    def fill(drawn: dict[str, object]) -> str:
        filled = template
        for name, part in drawn.items():
            filled = filled.replace(f"<{name}>", str(part))
        return filled

    return st.fixed_dictionaries(parts).map(fill)


statement = st.one_of(
    # globals
    snippet("globalThis['g' + <n>] = <v>", n=small, v=value),
    snippet("delete globalThis.<b>", b=builtin),
    snippet("globalThis.<b> = <v>", b=builtin, v=value),
    snippet("Object.defineProperty(globalThis, <t>, {get() { throw <v> }})", t=text, v=value),
    snippet("Object.defineProperty(globalThis, <t>, {value: <v>})", t=text, v=value),
    snippet("var leaked = <v>; leaked2 = <v>", v=value),
    snippet("state.list.push(<v>); state.count += <n>; state = <v>", v=value, n=small),
    # prototypes and builtins
    snippet("<c>.prototype<m> = <v>", c=constructor, m=member, v=value),
    snippet("Object.defineProperty(<c>.prototype, <t>, {get() { return <v> }})", c=constructor, t=text, v=value),
    snippet("delete <c>.prototype<m>", c=constructor, m=member),
    snippet("Object.setPrototypeOf(<c>.prototype, <v>)", c=constructor, v=value),
    snippet("Object.<f>(<b>)", f=st.sampled_from(["freeze", "seal", "preventExtensions"]), b=builtin),
    snippet("Object.<f>(<c>.prototype)", f=st.sampled_from(["freeze", "seal", "preventExtensions"]), c=constructor),
    snippet("Math.random = () => <n>; Date.now = () => <n>; globalThis.Date = function () {}", n=small),
    snippet("JSON.parse = JSON.stringify = () => <v>", v=value),
    snippet("console.log = null; console = <v>", v=value),
    # the heap
    snippet("globalThis.big = new Array(<n>).fill(<v>)", n=size, v=value),
    snippet("globalThis.bytes = new Uint8Array(<n>).fill(255)", n=size),
    snippet("const b = new ArrayBuffer(<n>, {maxByteLength: 2 * <n>}); b.resize(2 * <n>); keep = b.transfer()", n=size),
    snippet("keep = new Map(); for (let i = 0; i < <n>; i++) keep.set(i, {i}).set('k' + i, [i])", n=count),
    snippet("keep = new Set(); for (let i = 0; i < <n>; i++) keep.add({}); keep.clear()", n=count),
    snippet(
        "keep = {}; for (let i = 0; i < <n>; i++) keep['key' + i] = i; for (const k in keep) delete keep[k]", n=count
    ),
    snippet("keep = null; for (let i = 0; i < <n>; i++) keep = {keep, i}", n=count),
    snippet(
        "keep = ''; for (let i = 0; i < <n>; i++) keep = i % 2 ? keep + <t> + i : i + keep; keep.at(1)", n=count, t=text
    ),
    snippet("keep = 1n << <n>n; keep = keep * keep + BigInt(<s>)", n=count, s=small),
    snippet("keep = Array.from({length: <n>}, (_, i) => Symbol.for('s' + i))", n=count),
    snippet("keep = Array.from({length: <n>}, (_, i) => ({['p' + i]: i}))", n=count),
    snippet("const o = {}, w = new WeakMap([[o, <v>]]); keep = [new WeakRef(o), w]", v=value),
    snippet("keep = new FinalizationRegistry(() => { leaked3 = 1 }); keep.register({}, <v>)", v=value),
    # functions, closures, stacks
    snippet("keep = (() => { let n = 0, v = <v>; return () => [n++, v] })(); keep()", v=value),
    snippet("keep = eval('(function f(a) { return a ? f(a - 1) + 1 : 0 })'); keep(<n>)", n=count),
    snippet("keep = new Function('a', 'return a + <n>')(1); (0, eval)('var evaluated' + <n> + ' = <n>')", n=small),
    snippet("(function f(n) { try { return n ? f(n - 1) : <v> } finally { keep = n } })(<n>)", n=count, v=value),
    snippet("(function f() { return f() + 1 })()"),
    snippet("Math.max.apply(null, new Array(<n>).fill(1))", n=count),
    snippet(
        "let it = [1, 2, 3].values(); for (let i = 0; i < <n>; i++) it = it.take(2); it.next(); it.return()", n=small
    ),
    snippet("let f = () => 1; for (let i = 0; i < <n>; i++) f = f.bind(null, i % 2); f()", n=small),
    snippet("let p = {a: 1}; for (let i = 0; i < <n>; i++) p = new Proxy(p, {}); p.b = 1; ({...p})", n=small),
    snippet("[3, 1, 2].sort((a, b) => { keep = [a, b]; return [b, a].sort(() => <n>)[0] })", n=small),
    snippet("JSON.stringify(JSON.parse('['.repeat(<n>) + ']'.repeat(<n>)), (k, v) => v, 1)", n=small),
    # what is left unfinished
    snippet("keep = (function* () { try { yield <v> } finally { leaked4 = 1 } })(); keep.next()", v=value),
    snippet("keep = new Promise(() => {}); (async () => { await keep; leaked5 = 1 })()"),
    snippet("Promise.resolve(<v>).then(x => { leaked6 = x; throw x })", v=value),
    snippet("Promise.reject(<v>); Promise.all([1, Promise.reject(2)])", v=value),
    snippet(
        "keep = /(a)|b/gy; keep.lastIndex = <n>; keep.exec('ab'); 'abab'.replace(keep, () => { throw 1 })", n=small
    ),
    snippet("/(x+x+)+y/.test('x'.repeat(<n>))", n=st.integers(0, 12)),
    snippet("for (const x of new Set([1, 2, 3])) { keep = x; break }"),
    # console and exceptions
    snippet("for (let i = 0; i < <n>; i++) console.<l>(<v>, i)", n=small, v=value, l=st.sampled_from(["log", "error"])),
    snippet("console.log('x'.repeat(<n>))", n=size),
    snippet("throw <v>", v=value),
    snippet("throw Object.defineProperty(new Error(<t>), 'message', {get() { throw <v> }})", t=text, v=value),
    snippet("null.property"),
)


def wrapped(code: str) -> st.SearchStrategy[str]:
    """The statements inside something that changes when or where they run."""
    return st.sampled_from(
        [
            f"try {{ {code} }} catch (error) {{ caught = error }}",
            f"(() => {{ {code} }})()",
            f"(async () => {{ await null; {code} }})()",
            f"[...(function* () {{ yield 1; {code} }})()]",
            f"({{get x() {{ {code} }}}}).x",
            f"new Proxy({{}}, {{get() {{ {code} }}}}).x",
            f"({{toString() {{ {code} }}}}) + ''",
            f"(function f(n) {{ if (n) return f(n - 1); {code} }})(60)",
            f"class A {{ static {{ {code} }} }}",
        ]
    )


statements = st.recursive(
    statement.flatmap(wrapped) | statement,
    lambda inner: st.lists(inner, min_size=1, max_size=4).map(" ;\n".join).flatmap(wrapped),
    max_leaves=8,
)
programs = st.tuples(statements, value).map(lambda parts: f"{parts[0]}; ({parts[1]})")
