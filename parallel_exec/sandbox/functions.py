"""Which functions a plugin has, asked of the engine itself, so that no second opinion on JavaScript's grammar is
needed.
"""

from __future__ import annotations

import re

import orjson

from ..errors import PexecError, PluginError
from ..limits import Limits
from .driver import Driver
from .image import MemoryImage
from .reset import fill_new

# A module may import itself: it is loaded already, so no loader, which the engine does not have, is asked for it. It
# fails for a script, which is no module.
_OF_MODULE = """import * as plugin from {name};
export const list = () => Object.keys(plugin).filter(name => typeof plugin[name] === "function");
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
    limits = limits or Limits()
    try:
        return _ask(image, limits, _OF_MODULE.format(name=orjson.dumps(image.plugin_name).decode()), b"null")
    except PluginError:
        return _ask(image, limits, _OF_SCRIPT, orjson.dumps(_names(image, source)))


def _ask(image: MemoryImage, limits: Limits, source: str, document: bytes) -> list[str]:
    with Driver.open(limits) as driver:
        fill_new(driver.instance, image, image.plan)
        driver.load(source, _FILE, "module")
        driver.put(document, name="list")
        try:
            driver.call("engine_job")
        except PexecError as error:
            raise error.at(plugin=image.plugin_name) from None
        return sorted(orjson.loads(driver.output()))


def _names(image: MemoryImage, source: str | None) -> list[str]:
    if source is not None:
        return sorted(set(_NAME.findall(source)))
    found: set[bytes] = set()
    for _address, content in image.runs:
        found.update(_NAME_IN_MEMORY.findall(content))
    return sorted(name.decode("latin-1") for name in found)
