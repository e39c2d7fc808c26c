"""The kinds of images that there are."""

from __future__ import annotations

from typing import Any

from . import wasm_image
from .image import MemoryImage
from .image_file import magic_of
from .runner import Image
from .wasm_image import WasmImage


def load_image(buffer: Any) -> Image:
    """Return the image, of either kind, whose file lies in `buffer` (any bytes-like object).

    Raises:
        PluginError: as of `MemoryImage.from_bytes` and `WasmImage.from_bytes`.
    """
    return (WasmImage if magic_of(buffer) == wasm_image.MAGIC else MemoryImage).from_bytes(buffer)
