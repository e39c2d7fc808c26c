"""The command ``pexec``: a module per command, or per group of them, each a thin layer over the library.

A program, not part of the public API.
"""
