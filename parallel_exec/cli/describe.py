"""What `pexec plugin inspect` tells of a file: a plugin's source, a memory image, or a WebAssembly module.

`pexec plugin bake` leaves a note in the module, a custom section, so that what is in it can be told without running it.
"""

from __future__ import annotations

from typing import Any

import orjson

from parallel_exec.errors import PluginError
from parallel_exec.plugins import Plugin
from parallel_exec.sandbox import MemoryImage
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


def describe(path: str, content: bytes) -> dict[str, Any]:
    """Return what there is to tell, by heading, in the order in which it is shown.

    Raises:
        PluginError: the file is none of the three, or is damaged.
    """
    if content.startswith(WASM_MAGIC):
        return _describe_wasm(path, content)
    if content.startswith(IMAGE_MAGIC):
        image = MemoryImage.load(path)
        return {"kind": "memory image", "plugin": image.plugin_name} | _describe_image(image, functions_of(image))
    plugin = Plugin.from_file(path)
    image = plugin.image()
    return {
        "kind": "plugin source",
        "plugin": plugin.name,
        "source bytes": len(content),
        "sha256": plugin.digest,
    } | _describe_image(image, functions_of(image, source=plugin.source))


def _describe_image(image: MemoryImage, functions: list[str]) -> dict[str, Any]:
    return {
        "functions": functions,
        "image bytes": sum(len(content) for _address, content in image.runs),
        "memory bytes": image.memory_size,
        "globals": image.globals,
        "engine build": image.build_id,
    }


def note_section(image: MemoryImage, functions: list[str]) -> bytes:
    """Return the custom section that tells what was baked; it may follow any module's last section."""
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
    try:
        told: dict[str, Any] = {"kind": "WebAssembly module, not baked by pexec"}
        exports: list[str] = []
        mutable: list[str] = []
        memory = data = 0
        for section in read_sections(content):
            reader = section.reader()
            if section.id is SectionId.CUSTOM and reader.name() == NOTE:
                told = {"kind": "baked WebAssembly module"} | orjson.loads(bytes(section.body[reader.position :]))
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
    return told | {
        "module bytes": len(content),
        "image bytes": data,
        "memory bytes": memory,
        "exports": exports,
        "exported globals": mutable,
    }
