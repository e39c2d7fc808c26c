"""``python -m parallel_exec``: the command ``pexec``."""

import sys

from .cli.main import main

if __name__ == "__main__":
    sys.exit(main())
