"""Options that several commands share, and how their values are read."""

from __future__ import annotations

import functools
import inspect
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Concatenate, Literal, ParamSpec, TypeVar

import typer

from parallel_exec._cpus import usable_cpus
from parallel_exec.cli.failures import Debug, Failure, os_failure, usage
from parallel_exec.limits import Limits
from parallel_exec.plugins import Plugin, WasmPlugin
from parallel_exec.sandbox import Image, MemoryImage
from parallel_exec.sandbox._binary.format import WASM_MAGIC
from parallel_exec.sandbox._js.functions import functions_of, has_function

T = TypeVar("T")
P = ParamSpec("P")
F = TypeVar("F", bound=Callable[..., Any])


def _set_debug(value: bool) -> None:
    if value:
        Debug.on = True


DebugOption = Annotated[
    bool,
    typer.Option("--debug", help="Show the traceback of an error.", callback=_set_debug, is_eager=True),
]
FunctionOption = Annotated[
    str | None,
    typer.Option(
        "--function",
        metavar="NAME",
        help="The plugin function to call. By default the plugin's only function, or the one named calculate.",
    ),
]
InputOption = Annotated[
    Literal["json", "msgpack", "binary"],
    typer.Option("--input", help="What documents are: JSON text, MessagePack (for modules), or raw bytes."),
]
LinesOption = Annotated[
    bool, typer.Option("--lines", help="Treat each line that is not blank as a document, rather than each file.")
]
FilesArgument = Annotated[
    list[str] | None,
    typer.Argument(metavar="FILES", help="Files to read; '-' or no argument reads stdin.", show_default=False),
]
PluginArgument = Annotated[
    str, typer.Argument(metavar="PLUGIN", help="A JavaScript file or a WebAssembly module.", show_default=False)
]
WorkersOption = Annotated[
    int | None,
    typer.Option("--workers", metavar="N", help="Number of worker processes; by default one per usable CPU."),
]
MemoryOption = Annotated[
    str | None,
    typer.Option("--memory-limit", metavar="SIZE", help="Memory limit per job: bytes, 64M, 1G; 256M by default."),
]
TimeOption = Annotated[
    float | None,
    typer.Option("--time-limit", metavar="SECONDS", help="Time limit per job; 10 s by default."),
]
JsonOption = Annotated[
    str | None, typer.Option("--json", metavar="FILE", help="Write the figures to FILE as JSON; '-' is stdout.")
]

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?", re.IGNORECASE)
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


class Commands(typer.Typer):
    """A group of commands, each of which accepts ``--debug``."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(rich_markup_mode=None, **settings)

    def command(self, name: str | None = None, **settings: Any) -> Callable[[F], F]:
        """Return a decorator that registers a command under a name."""
        register = super().command(name, **settings)

        def add(command: F) -> F:
            parameters = _parameters(command)
            if any(parameter.name == "debug" for parameter in parameters):
                register(command)
                return command

            @functools.wraps(command)
            def run(*, debug: bool, **values: Any) -> Any:  # noqa: ARG001 - the option's callback has dealt with it
                return command(**values)

            debug = inspect.Parameter("debug", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=DebugOption)
            register(_declare(run, [*parameters, debug]))
            return command

        return add


def takes(options: Callable[..., T]) -> Callable[[Callable[Concatenate[T, P], None]], Callable[..., None]]:
    """Return a decorator for a command that takes the options which a dataclass declares as its fields.

    The command gets them as its first argument, an instance of that dataclass; typer sees one option for each field.
    """
    shared = _parameters(options)

    def decorate(command: Callable[Concatenate[T, P], None]) -> Callable[..., None]:
        _first, *own = _parameters(command)

        @functools.wraps(command)
        def run(**values: Any) -> None:
            taken = options(**{parameter.name: values.pop(parameter.name) for parameter in shared})
            command(taken, **values)  # type: ignore[call-arg]  # the rest are the command's own, by name

        return _declare(run, [*own, *shared])

    return decorate


def _parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    parameters = inspect.signature(function, eval_str=True).parameters.values()
    return [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in parameters]


def _declare(run: Callable[..., T], parameters: Sequence[inspect.Parameter]) -> Callable[..., T]:
    """Give a function the signature that typer is to read."""
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def check_least(value: int | None, option: str, least: int = 1) -> None:
    """Check the value of an option that counts something.

    Raises:
        Failure: the value is below `least`.
    """
    if value is not None and value < least:
        raise usage(f"{option} must be at least {least}; got {value}")


def parse_size(text: str, option: str) -> int:
    """Return the number of bytes that a text such as ``64M`` stands for; units are powers of 1024.

    Raises:
        Failure: the text, the value of `option`, is no size.

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
        memory: the value of ``--memory-limit``; None for the default.
        time_s: the value of ``--time-limit``; None for the default.
        pinned: give every job the same random numbers and the same time.

    Raises:
        Failure: a value is out of range.
    """
    values: dict[str, Any] = {}
    if memory is not None:
        values["memory_bytes"] = parse_size(memory, "--memory-limit")
    if time_s is not None:
        values["time_s"] = time_s
    if pinned:
        values |= {"seed": 1, "time": float(int(time.time()))}
    try:
        return Limits(**values)
    except ValueError as error:
        text = str(error).replace("Limits.memory_bytes", "--memory-limit").replace("Limits.time_s", "--time-limit")
        raise usage(text.replace(" above 0, or None;", " above 0;")) from None


def load_plugin(path: str) -> Plugin | WasmPlugin:
    """Return the plugin in a file: a WebAssembly module if it starts like one, otherwise JavaScript.

    Raises:
        PluginError: the file cannot be read, or is not text.
    """
    try:
        with open(path, "rb") as file:
            is_wasm = file.read(len(WASM_MAGIC)) == WASM_MAGIC
    except OSError:
        is_wasm = False  # Plugin.from_file reports the error
    return WasmPlugin.from_file(path) if is_wasm else Plugin.from_file(path)


def load_function(path: str, function: str | None, limits: Limits) -> tuple[Plugin | WasmPlugin, Image, str]:
    """Return the plugin in a file, its image, and the name of the function to call.

    Raises:
        PluginError: the plugin cannot be read, or cannot be loaded within the limits.
        Failure: no function can be chosen (`choose_function`), or none is named for a module, which cannot be listed.
    """
    loaded = load_plugin(path)
    if isinstance(loaded, Plugin):
        captured = capture(loaded, limits)
        return loaded, captured, choose_function(loaded, captured, function, limits)
    if not function:
        raise usage("--function is needed for a WebAssembly module: its functions cannot be listed")
    return loaded, loaded.image(limits=limits), function


def read_secret(path: str | None, option: str) -> bytes | None:
    """Return the content of the small file that an option names; None if the option was not given.

    Raises:
        Failure: the file cannot be read.
    """
    if path is None:
        return None
    try:
        with open(path, "rb") as file:
            return file.read(1 << 20)
    except OSError as error:
        raise os_failure(f"{option}: cannot read {path}", error) from None


def read_token(path: str | None) -> str | None:
    """Return the token in the file that ``--token-file`` names; None if the option was not given.

    Raises:
        Failure: the file cannot be read.
    """
    content = read_secret(path, "--token-file")
    return None if content is None else content.decode(errors="replace").strip()


def read_file(path: str, what: str) -> bytes:
    """Return the content of a file.

    Raises:
        Failure: the file, which the message calls `what`, cannot be read.
    """
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise os_failure(f"cannot read {what}", error) from None


def count_workers(workers: int | None) -> int:
    """Return the number of worker processes: as ``--workers`` says, or one per usable CPU.

    Raises:
        Failure: the number is below 1.
    """
    check_least(workers, "--workers")
    return workers or usable_cpus()


def capture(plugin: Plugin, limits: Limits) -> MemoryImage:
    """Return the plugin's image, captured within the limits that the options ask for."""
    return MemoryImage.capture(plugin.source, name=plugin.name, kind=plugin.kind, limits=limits)


def choose_function(plugin: Plugin, image: MemoryImage, function: str | None, limits: Limits) -> str:
    """Return the function to call: the one named, the plugin's only one, or `calculate`.

    Raises:
        Failure: the plugin has no function of that name, no function at all, or several and none is named.
    """
    if function is not None:
        if not function:
            raise usage("--function must be a name; got an empty string")
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
