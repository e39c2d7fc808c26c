"""What ``pexec bench`` and ``pexec profile`` run: strategies, peers, rounds of measuring, and the tables.

A program, not part of the public API.
"""
