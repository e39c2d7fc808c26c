"""``Pool(backend="thread")``: workers that are threads of this process."""
