"""Signed messages: the same ones verified natively, in WebAssembly by several runtimes and in JavaScript
(`pexec bench verify`), and through a service from one end to the other (`pexec verify-demo`). README.md says more.

A program, not part of the public API.
"""
