"""`pexec bench verify`: the same signed messages verified natively, in WebAssembly by several runtimes, and in
JavaScript.

A program, not part of the public API.
"""
