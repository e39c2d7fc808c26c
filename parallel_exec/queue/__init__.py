"""Redis streams as a queue of documents: each entry gets one result (``pexec consume``).

A program, not part of the public API.
"""
