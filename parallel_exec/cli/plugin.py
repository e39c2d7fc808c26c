"""`pexec plugin`: bake a plugin into a WebAssembly module, and look into what there is."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from parallel_exec.cli.failures import os_failure, usage
from parallel_exec.cli.options import DebugOption, FunctionOption, choose_function

plugin = typer.Typer(help="Plugins as files.", no_args_is_help=False, rich_markup_mode=None)


@plugin.command("bake")
def bake(
    source: Annotated[str, typer.Argument(metavar="PLUGIN", help="The JavaScript file.", show_default=False)],
    out: Annotated[
        str, typer.Option("-o", "--output", metavar="OUT", help="The module to write.", show_default=False)
    ] = "",
    samples: Annotated[
        list[str] | None,
        typer.Option("--sample", metavar="FILE", help="A document to warm the plugin up with; may be given again."),
    ] = None,
    function: FunctionOption = None,
    debug: DebugOption = False,
) -> None:
    """Bake a plugin into a standalone WebAssembly module, which starts with the plugin loaded."""
    if not out:
        raise usage("-o is needed: the file to write the module to, such as track.wasm")
    from pathlib import Path

    from parallel_exec.cli.describe import note_section
    from parallel_exec.cli.output import Output
    from parallel_exec.limits import Limits
    from parallel_exec.plugins import Plugin
    from parallel_exec.sandbox import Engine
    from parallel_exec.sandbox._binary.bake import bake as bake_module
    from parallel_exec.sandbox._js.functions import functions_of

    loaded = Plugin.from_file(source)
    image = loaded.image()
    if samples:
        documents = []
        for sample in samples:
            try:
                documents.append(Path(sample).read_bytes())
            except OSError as error:
                raise os_failure(f"cannot read the sample {sample}", error) from None
        image = loaded.image(samples=documents, function=choose_function(loaded, image, function, Limits()))
    module = bake_module(Engine.shared().wasm, image)
    module += note_section(image, functions_of(image, source=loaded.source))
    with Output(out) as output:
        output.write(module)
        output.keep()


@plugin.command("inspect")
def inspect(
    file: Annotated[
        str,
        typer.Argument(metavar="FILE", help="A plugin's source, a memory image or a module.", show_default=False),
    ],
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    debug: DebugOption = False,
) -> None:
    """Tell what a file is, which functions it has, and how large its image is."""
    from pathlib import Path

    from parallel_exec.cli.describe import describe

    try:
        content = Path(file).read_bytes()
    except OSError as error:
        raise os_failure(f"cannot read {file}", error) from None
    told = describe(file, content)
    if json:
        import orjson

        typer.echo(orjson.dumps(told, option=orjson.OPT_INDENT_2).decode())
        return
    width = max(map(len, told)) + 2
    for heading, value in told.items():
        typer.echo(f"{heading + ':':{width}}{_shown(value)}")


def _shown(value: Any) -> str:
    from parallel_exec.cli.failures import one_line

    if isinstance(value, dict):
        return ", ".join(f"{key} = {item:,}" for key, item in value.items()) or "none"
    if isinstance(value, list):
        return one_line(", ".join(value)) or "none"
    return f"{value:,}" if isinstance(value, int) else one_line(str(value))
