"""Options that several commands share, and how their values are read."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from parallel_exec.cli.failures import Debug, Failure, os_failure, usage

if TYPE_CHECKING:
    from parallel_exec.limits import Limits
    from parallel_exec.plugins import Plugin, WasmPlugin
    from parallel_exec.sandbox import Image, MemoryImage


def _set_debug(value: bool) -> None:
    if value:
        Debug.on = True


DebugOption = Annotated[
    bool, typer.Option("--debug", help="Show the traceback of an error.", callback=_set_debug, is_eager=True)
]
FunctionOption = Annotated[
    str | None,
    typer.Option(
        "--function",
        metavar="NAME",
        help="The plugin's function to call. By default its only one, or the one named calculate.",
    ),
]
InputOption = Annotated[
    Literal["json", "msgpack", "binary"],
    typer.Option("--input", help="What documents are: JSON text, MessagePack for a module, or any bytes."),
]
WorkersOption = Annotated[
    int | None,
    typer.Option("--workers", metavar="N", help="Worker processes; by default as many as CPUs that may be used."),
]
MemoryOption = Annotated[
    str | None,
    typer.Option("--memory-limit", metavar="SIZE", help="Memory of a job, in bytes or as 64M or 1G; 256M by default."),
]
TimeOption = Annotated[
    float | None,
    typer.Option("--time-limit", metavar="SECONDS", help="Time that a job may take; 10 s by default."),
]
JsonOption = Annotated[
    str | None, typer.Option("--json", metavar="FILE", help="Write the figures to a file as JSON; - is stdout.")
]

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?", re.IGNORECASE)
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


def parse_size(text: str, option: str) -> int:
    """Return the number of bytes that a text such as ``64M`` stands for; units are powers of 1024.

    >>> parse_size("64M", "--memory-limit"), parse_size("1.5 GiB", "--memory-limit"), parse_size("4194304", "")
    (67108864, 1610612736, 4194304)
    """
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise usage(f"{option} must be a number of bytes, such as 67108864, 64M or 1G; got {text!r}")
    return int(float(found[1]) * _UNITS[found[2].lower()])


def make_limits(memory: str | None, time_s: float | None, *, pinned: bool = False) -> Limits:
    """Return the limits that the options ask for.

    Args:
        memory, time_s: the options' values; None for the default.
        pinned: let every job see the same chance and time.
    """
    import time

    from parallel_exec.limits import Limits

    values: dict[str, object] = {}
    if memory is not None:
        values["memory_bytes"] = parse_size(memory, "--memory-limit")
    if time_s is not None:
        values["time_s"] = time_s
    if pinned:
        values |= {"seed": 1, "time": float(int(time.time()))}
    try:
        return Limits(**values)  # type: ignore[arg-type]
    except ValueError as error:
        text = str(error).replace("Limits.memory_bytes", "--memory-limit").replace("Limits.time_s", "--time-limit")
        raise usage(text.replace(" above 0, or None;", " above 0;")) from None


def load_plugin(path: str) -> Plugin | WasmPlugin:
    """Return the plugin in a file: a WebAssembly module if it begins like one, else JavaScript.

    Raises:
        PluginError: it cannot be read, or is not text.
    """
    from parallel_exec.plugins import Plugin, WasmPlugin
    from parallel_exec.sandbox._binary.format import WASM_MAGIC

    try:
        with open(path, "rb") as file:
            is_wasm = file.read(len(WASM_MAGIC)) == WASM_MAGIC
    except OSError:
        is_wasm = False  # the error is told below, as for all plugins
    return WasmPlugin.from_file(path) if is_wasm else Plugin.from_file(path)


def load_function(path: str, function: str | None, limits: Limits) -> tuple[Plugin | WasmPlugin, Image, str]:
    """Return the plugin in a file, its image, and the name of the function to call.

    Raises:
        PluginError: as of `load_plugin`; or it cannot be loaded within the limits. Failure: see `choose_function`; a
        module's function has to be named, for none tells which ones it has.
    """
    from parallel_exec.plugins import Plugin

    loaded = load_plugin(path)
    if isinstance(loaded, Plugin):
        captured = capture(loaded, limits)
        return loaded, captured, choose_function(loaded, captured, function, limits)
    if not function:
        raise usage("--function is needed with a module: nobody can tell what it knows")
    return loaded, loaded.image(limits=limits), function


def read_secret(path: str, option: str) -> bytes:
    """Return the content of a small file that an option names.

    Raises:
        Failure: it cannot be read.
    """
    try:
        with open(path, "rb") as file:
            return file.read(1 << 20)
    except OSError as error:
        raise os_failure(f"{option}: cannot read {path}", error) from None


def count_workers(workers: int | None) -> int:
    """Return how many workers there are to be."""
    from parallel_exec.measure.machine import available_cpus

    if workers is not None and workers < 1:
        raise usage(f"--workers must be at least 1; got {workers}")
    return workers or available_cpus()


def capture(plugin: Plugin, limits: Limits) -> MemoryImage:
    """Return the plugin's image, captured within the limits that the options ask for."""
    from parallel_exec.sandbox import MemoryImage

    return MemoryImage.capture(plugin.source, name=plugin.name, kind=plugin.kind, limits=limits)


def choose_function(plugin: Plugin, image: MemoryImage, function: str | None, limits: Limits) -> str:
    """Return the function to call: the one named, the plugin's only one, or `calculate`.

    Raises:
        Failure: the plugin has no function of that name; or none is named and there is none, or no telling which.
    """
    from parallel_exec.sandbox._js.functions import functions_of, has_function

    if function is not None:
        if not function:
            raise usage("--function must be a name; got nothing")
        if has_function(image, function, limits=limits):
            return function
        names = functions_of(image, source=plugin.source, limits=limits)
        raise Failure(f"{plugin.name}: the plugin has no function {function!r}; it has {', '.join(names) or 'none'}")
    names = functions_of(image, source=plugin.source, limits=limits)
    if not names:
        raise Failure(
            f"{plugin.name}: the plugin has no function; a script declares it at top level, a module exports it"
        )
    if len(names) == 1:
        return names[0]
    if "calculate" in names:
        return "calculate"
    raise usage(f"--function is needed: {plugin.name} has {', '.join(names)}")
