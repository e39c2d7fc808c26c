"""Redis streams as a queue of documents, each of which gets one result. Needs the extra ``redis``.

A program, not part of the public API.
"""
