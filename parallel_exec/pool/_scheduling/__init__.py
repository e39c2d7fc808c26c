"""The pool's parent side: which job is where, who collects results, and which processes live."""
