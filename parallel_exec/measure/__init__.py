"""Running, statistics and reports of ``pexec bench`` and ``pexec profile``.

A program, not part of the public API.
"""
