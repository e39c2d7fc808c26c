"""`pexec plugin`: bake a plugin into a WebAssembly module, and inspect files.

`pexec plugin bake` leaves a note in the module, a custom section, so that `pexec plugin inspect` can describe what is
in it without running it.
"""

from __future__ import annotations

from typing import Annotated, Any

import orjson
import typer

from parallel_exec.cli.failures import one_line, usage
from parallel_exec.cli.options import Commands, FunctionOption, choose_function, read_file
from parallel_exec.cli.output import Output
from parallel_exec.errors import PluginError
from parallel_exec.limits import Limits
from parallel_exec.plugins import Plugin
from parallel_exec.sandbox import Engine, MemoryImage
from parallel_exec.sandbox._binary.bake import bake as bake_module
from parallel_exec.sandbox._binary.format import (
    WASM_MAGIC,
    BakeError,
    ExternalKind,
    SectionId,
    read_sections,
    section_header,
    unsigned,
)
from parallel_exec.sandbox._js.functions import functions_of
from parallel_exec.sandbox._js.image import IMAGE_MAGIC

NOTE = "parallel_exec.plugin"

plugin = Commands(help="Bake and inspect plugins.")


@plugin.command("bake")
def bake(
    *,
    source: Annotated[str, typer.Argument(metavar="PLUGIN", help="A JavaScript file.", show_default=False)],
    out: Annotated[
        str, typer.Option("-o", "--output", metavar="OUT", help="The module to write.", show_default=False)
    ] = "",
    samples: Annotated[
        list[str] | None,
        typer.Option("--sample", metavar="FILE", help="A document to warm the plugin up with; may be repeated."),
    ] = None,
    function: FunctionOption = None,
) -> None:
    """Bake a plugin into a standalone WebAssembly module, which starts with the plugin loaded."""
    if not out:
        raise usage("-o is needed: the module to write, such as track.wasm")
    loaded = Plugin.from_file(source)
    image = loaded.image()
    if samples:
        documents = [read_file(sample, f"the sample {sample}") for sample in samples]
        image = loaded.image(samples=documents, function=choose_function(loaded, image, function, Limits()))
    module = bake_module(Engine.shared().wasm, image)
    module += note_section(image, functions_of(image, source=loaded.source))
    with Output(out) as output:
        output.write(module)
        output.keep()


@plugin.command("inspect")
def inspect(
    *,
    file: Annotated[
        str,
        typer.Argument(metavar="FILE", help="A plugin's source, a memory image, or a module.", show_default=False),
    ],
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show what a file is, which functions it has, and how large its image is."""
    description = describe(file, read_file(file, file))
    if json:
        typer.echo(orjson.dumps(description, option=orjson.OPT_INDENT_2).decode())
        return
    width = max(map(len, description)) + 2
    for heading, value in description.items():
        typer.echo(f"{heading + ':':{width}}{_format(value)}")


def _format(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} = {item:,}" for key, item in value.items()) or "none"
    if isinstance(value, list):
        return one_line(", ".join(value)) or "none"
    return f"{value:,}" if isinstance(value, int) else one_line(str(value))


def describe(path: str, content: bytes) -> dict[str, Any]:
    """Return what can be said about a file, by heading, in the order in which it is shown.

    Raises:
        PluginError: the file is not a plugin, an image or a module, or is damaged.
    """
    if content.startswith(WASM_MAGIC):
        return _describe_wasm(path, content)
    if content.startswith(IMAGE_MAGIC):
        image = MemoryImage.load(path)
        return {"kind": "memory image", "plugin": image.plugin_name} | _describe_image(image, functions_of(image))
    source = Plugin.from_file(path)
    image = source.image()
    return {
        "kind": "plugin source",
        "plugin": source.name,
        "source bytes": len(content),
        "sha256": source.digest,
    } | _describe_image(image, functions_of(image, source=source.source))


def _describe_image(image: MemoryImage, functions: list[str]) -> dict[str, Any]:
    return {
        "functions": functions,
        "image bytes": sum(len(content) for _address, content in image.runs),
        "memory bytes": image.memory_size,
        "globals": image.globals,
        "engine build": image.build_id,
    }


def note_section(image: MemoryImage, functions: list[str]) -> bytes:
    """Return the custom section that describes a baked plugin; it may follow the last section of any module."""
    name = NOTE.encode()
    note = {
        "plugin": image.plugin_name,
        "functions": functions,
        "globals": image.globals,
        "engine build": image.build_id,
    }
    body = unsigned(len(name)) + name + orjson.dumps(note)
    return section_header(SectionId.CUSTOM, len(body)) + body


def _describe_wasm(path: str, content: bytes) -> dict[str, Any]:
    note: dict[str, Any] = {"kind": "WebAssembly module, not baked by pexec"}
    exports: list[str] = []
    mutable: list[str] = []
    memory = data = 0
    try:
        for section in read_sections(content):
            reader = section.reader()
            if section.id is SectionId.CUSTOM and reader.name() == NOTE:
                note = {"kind": "baked WebAssembly module"} | orjson.loads(bytes(section.body[reader.position :]))
            elif section.id is SectionId.MEMORY and reader.unsigned():
                memory = reader.limits()[1] * 65536
            elif section.id is SectionId.DATA:
                data = len(section.body)
            elif section.id is SectionId.EXPORT:
                for _ in range(reader.unsigned()):
                    name, kind = reader.name(), reader.byte()
                    reader.unsigned()
                    (mutable if kind == ExternalKind.GLOBAL else exports).append(name)
    except (BakeError, orjson.JSONDecodeError) as error:
        raise PluginError(f"the WebAssembly module is damaged: {error}").at(plugin=path) from None
    return note | {
        "module bytes": len(content),
        "image bytes": data,
        "memory bytes": memory,
        "exports": exports,
        "exported globals": mutable,
    }
