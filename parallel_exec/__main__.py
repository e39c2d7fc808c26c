"""``python -m parallel_exec``: the command ``pexec``."""

from .cli.main import entry

if __name__ == "__main__":
    entry()
