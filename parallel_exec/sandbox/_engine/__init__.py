"""wasmtime: the compiled engine, its instances and their memory, and what stops a job that is overdue."""
