"""The command ``pexec``: one file per command, each thin over the library.

A program, not part of the public API.
"""
