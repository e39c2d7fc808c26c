"""The command ``pexec``: one file per command, each thin over the library."""
