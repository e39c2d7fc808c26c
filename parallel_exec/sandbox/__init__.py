"""One sandbox in this process: the engine, a plugin's image, and jobs that start from it and end in a reset."""

from .engine import Engine
from .image import MemoryImage
from .images import load_image
from .runner import Image
from .sandbox import Sandbox
from .stats import JobStats
from .wasm_image import WasmImage

__all__ = ["Engine", "Image", "JobStats", "MemoryImage", "Sandbox", "WasmImage", "load_image"]
