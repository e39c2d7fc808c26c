"""One sandbox in this process: the engine, a plugin's image, and jobs that start from it and end in a reset."""

from parallel_exec.sandbox._engine.engine import Engine
from parallel_exec.sandbox._js.image import MemoryImage
from parallel_exec.sandbox._runner import Image
from parallel_exec.sandbox._sandbox import JobStats, Sandbox, load_image
from parallel_exec.sandbox._wasm.image import WasmImage

__all__ = ["Engine", "Image", "JobStats", "MemoryImage", "Sandbox", "WasmImage", "load_image"]
