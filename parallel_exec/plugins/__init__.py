"""What a user hands over to run: plugins of JavaScript and of WebAssembly, and handles to their functions."""

from parallel_exec.plugins._base import AnyPlugin, PluginFunction
from parallel_exec.plugins._javascript import Plugin
from parallel_exec.plugins._wasm import WasmPlugin

__all__ = ["AnyPlugin", "Plugin", "PluginFunction", "WasmPlugin"]
