"""The kinds of images that there are."""

from __future__ import annotations

from typing import Any

from parallel_exec.sandbox._image_file import magic_of
from parallel_exec.sandbox._js.image import MemoryImage
from parallel_exec.sandbox._runner import Image
from parallel_exec.sandbox._wasm import image as wasm_image
from parallel_exec.sandbox._wasm.image import WasmImage


def load_image(buffer: Any) -> Image:
    """Return the image, of either kind, whose file lies in `buffer` (any bytes-like object).

    Raises:
        PluginError: as of `MemoryImage.from_bytes` and `WasmImage.from_bytes`.
    """
    return (WasmImage if magic_of(buffer) == wasm_image.MAGIC else MemoryImage).from_bytes(buffer)
