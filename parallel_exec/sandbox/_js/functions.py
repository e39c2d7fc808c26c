"""Which functions a plugin has. The engine itself is asked, so that nothing else needs to know JavaScript's grammar.

The question is a module, loaded on top of the plugin in an instance of its own. It uses none of the library functions
that the plugin may have replaced; a plugin that misleads it all the same does so only about itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import orjson

from parallel_exec.errors import PluginError
from parallel_exec.limits import Limits
from parallel_exec.sandbox._js.driver import Driver
from parallel_exec.sandbox._js.image import MemoryImage

# A module can be imported by another without a loader, which the engine does not have, because it is loaded already.
# For a script, which is not a module, the import fails.
_OF_MODULE = """import * as $pexec_plugin from {name};
export const $pexec_list = () => {
    const found = [];
    for (const name in $pexec_plugin) if (typeof $pexec_plugin[name] === "function") found[found.length] = name;
    return found;
};
export const $pexec_has = name => typeof $pexec_plugin[name] === "function";
"""

# A script's functions are globals, or top-level const and let, which nothing lists. So names are tried: all that occur
# in its source or, without that, in the image's memory, where the engine keeps each as an interned string.
_OF_SCRIPT = """const $pexec_text = Function.prototype.toString;
const $pexec_own = value => {
    if (typeof value !== "function") return false;
    try { return !$pexec_text.call(value).includes("[native code]") } catch { return true }
};
export const $pexec_list = () => {
    const $pexec_found = [];
    {tries}
    return $pexec_found;
};
export const $pexec_has = () => {
    try { return typeof {name} === "function" } catch { return false }
};
"""
_TRY = "try { if ($pexec_own(%s)) $pexec_found[$pexec_found.length] = %s } catch { }"
_OURS = "$pexec_"
_FILE = "pexec:functions"

_NAME = re.compile(r"(?<![\w$])(?:[^\W\d]|\$)[\w$]*")
_NAME_IN_MEMORY = re.compile(rb"(?<![\w$\xaa-\xff])[A-Za-z_$\xaa-\xff][\w$\xaa-\xff]{0,99}(?![\w$\xaa-\xff])")
_RESERVED_WORDS = """
    arguments await break case catch class const continue debugger default delete do else enum eval export extends false
    finally for function if implements import in instanceof interface let new null package private protected public
    return static super switch this throw true try typeof var void while with yield
"""
_RESERVED = frozenset(_RESERVED_WORDS.split())


def functions_of(image: MemoryImage, *, source: str | None = None, limits: Limits | None = None) -> list[str]:
    """Return the names of the functions that a job can call in this image, sorted.

    Args:
        image: a plugin's memory image.
        source: the plugin's source, if it is at hand: it makes this much faster for a script (1 ms, not 100).
        limits: bounds on the question, which runs beside the plugin.

    A script's functions that are built in or bound (``Function.prototype.bind``) are not listed, though they can be
    called.

    >>> functions_of(MemoryImage.capture("export const f = x => x; export default function () {}", name="two.mjs"))
    ['default', 'f']
    >>> functions_of(MemoryImage.capture("const k = 3, twice = x => 2 * x; function half(x) {}", name="s"))
    ['half', 'twice']
    """

    def script() -> str:
        names = (name for name in _names(image, source) if _is_name(name))
        return _OF_SCRIPT.replace("{tries}", "\n".join(_TRY % (name, _quoted(name)) for name in names)).replace(
            "{name}", "0"
        )

    found = _ask(image, limits or Limits(), script, "list", None)
    return sorted(name for name in found if isinstance(name, str)) if isinstance(found, list) else []


def has_function(image: MemoryImage, name: str, *, limits: Limits | None = None) -> bool:
    """Say whether a job can call a function of this name in this image.

    >>> image = MemoryImage.capture("const twice = x => 2 * x", name="twice.js")
    >>> has_function(image, "twice"), has_function(image, "thrice")
    (True, False)
    """

    def script() -> str:
        expression = name if _is_name(name) else f"globalThis[{_quoted(name)}]"
        return _OF_SCRIPT.replace("{tries}", "").replace("{name}", expression)

    return _ask(image, limits or Limits(), script, "has", name) is True


def _ask(image: MemoryImage, limits: Limits, script: Callable[[], str], question: str, document: Any) -> Any:
    """Load one of the two modules on top of the image and call its function."""
    of_module = _OF_MODULE.replace("{name}", _quoted(image.plugin_name))
    try:
        driver = _load(image, limits, of_module)
    except PluginError:
        driver = _load(image, limits, script())
    with driver:
        driver.put(orjson.dumps(document), name=_OURS + question)
        driver.call("engine_job")
        return orjson.loads(driver.output())


def _load(image: MemoryImage, limits: Limits, source: str) -> Driver:
    driver = Driver.open(limits)
    try:
        image.fill(driver.instance)
        driver.load(source, _FILE, "module")
    except BaseException:
        driver.close()
        raise
    return driver


def _names(image: MemoryImage, source: str | None) -> list[str]:
    if source is not None:
        return sorted(set(_NAME.findall(source)))
    found: set[bytes] = set()
    for _address, content in image.runs:
        found.update(_NAME_IN_MEMORY.findall(content))
    return sorted(name.decode("latin-1") for name in found)


def _is_name(name: str) -> bool:
    return name not in _RESERVED and not name.startswith(_OURS) and name.replace("$", "_").isidentifier()


def _quoted(text: str) -> str:
    return orjson.dumps(text).decode()
