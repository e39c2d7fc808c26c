"""Reading and writing WebAssembly's binary format."""
