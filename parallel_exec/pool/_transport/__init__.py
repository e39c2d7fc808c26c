"""How jobs and results travel between processes: rings in shared memory, doorbells, and sockets for descriptors."""
