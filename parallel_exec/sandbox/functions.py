"""Which functions a plugin has, asked of the engine itself, so that no second opinion on JavaScript's grammar is
needed.
"""

from __future__ import annotations

import re
from typing import Any

import orjson

from ..errors import PluginError
from ..limits import Limits
from .driver import Driver
from .image import MemoryImage
from .reset import fill_new

# A module may import itself: it is loaded already, so no loader, which the engine does not have, is asked for it. It
# fails for a script, which is no module.
_OF_MODULE = """import * as plugin from {name};
export const list = () => Object.keys(plugin).filter(name => typeof plugin[name] === "function");
export const has = name => typeof plugin[name] === "function";
"""

# A script's functions are globals, or top-level const and let, which nothing lists: so names are tried, all that
# occur in its source or, where that is not at hand, in the image's memory, where the engine keeps each as an interned
# string.
_OF_SCRIPT = """export const list = names => names.filter(name => {
    try {
        const value = (0, eval)(name);
        return typeof value === "function" && !Function.prototype.toString.call(value).includes("[native code]");
    } catch { return false }
});
export const has = name => {
    if (name in globalThis) return typeof globalThis[name] === "function";
    try {
        return /^[\\p{ID_Start}$_][\\p{ID_Continue}$]*$/u.test(name) && typeof (0, eval)(name) === "function";
    } catch { return false }
};
"""
_NAME = re.compile(r"(?<![\w$])(?:[^\W\d]|\$)[\w$]*")
_NAME_IN_MEMORY = re.compile(rb"(?<![\w$\xaa-\xff])[A-Za-z_$\xaa-\xff][\w$\xaa-\xff]{0,99}(?![\w$\xaa-\xff])")
_FILE = "pexec:functions"


def functions_of(image: MemoryImage, *, source: str | None = None, limits: Limits | None = None) -> list[str]:
    """Return the names of the functions that a job can call in this image, sorted.

    Args:
        image: a plugin's memory image.
        source: the plugin's source, if it is at hand: it makes this 100 times faster (0.3 ms).
        limits: bounds on the question, for it runs the plugin's engine.

    Those of a script that are built in or bound (``Function.prototype.bind``) are not listed, though they can be
    called.

    >>> functions_of(MemoryImage.capture("export const f = x => x; export default function () {}", name="two.mjs"))
    ['default', 'f']
    >>> functions_of(MemoryImage.capture("const k = 3, twice = x => 2 * x; function half(x) {}", name="s"))
    ['half', 'twice']
    """
    with _questioner(image, limits or Limits()) as driver:
        return sorted(_ask(driver, "list", _names(image, source)))


def has_function(image: MemoryImage, name: str, *, limits: Limits | None = None) -> bool:
    """Say whether a job can call a function of this name in this image.

    >>> image = MemoryImage.capture("const twice = x => 2 * x", name="twice.js")
    >>> has_function(image, "twice"), has_function(image, "thrice")
    (True, False)
    """
    with _questioner(image, limits or Limits()) as driver:
        return bool(_ask(driver, "has", name))


def _questioner(image: MemoryImage, limits: Limits) -> Driver:
    """Return an instance with the image in it and one of the two modules loaded on top."""
    of_module = _OF_MODULE.replace("{name}", orjson.dumps(image.plugin_name).decode())
    try:
        return _load(image, limits, of_module)
    except PluginError:
        return _load(image, limits, _OF_SCRIPT)


def _load(image: MemoryImage, limits: Limits, source: str) -> Driver:
    driver = Driver.open(limits)
    try:
        fill_new(driver.instance, image, image.plan)
        driver.load(source, _FILE, "module")
    except BaseException:
        driver.close()
        raise
    return driver


def _ask(driver: Driver, question: str, document: Any) -> Any:
    driver.put(orjson.dumps(document), name=question)
    driver.call("engine_job")
    return orjson.loads(driver.output())


def _names(image: MemoryImage, source: str | None) -> list[str]:
    if source is not None:
        return sorted(set(_NAME.findall(source)))
    found: set[bytes] = set()
    for _address, content in image.runs:
        found.update(_NAME_IN_MEMORY.findall(content))
    return sorted(name.decode("latin-1") for name in found)
