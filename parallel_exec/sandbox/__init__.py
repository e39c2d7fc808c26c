"""One sandbox in this process: the engine, a plugin's memory image, and jobs that start from it and end in a reset."""

from .engine import Engine
from .image import MemoryImage
from .sandbox import Sandbox
from .stats import JobStats

__all__ = ["Engine", "JobStats", "MemoryImage", "Sandbox"]
