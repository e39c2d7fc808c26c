"""Redis streams as a queue of documents: each entry gets one result."""
