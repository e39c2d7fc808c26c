"""Plugins that are WebAssembly modules: checked and rewritten, compiled, and called by their ABI."""
