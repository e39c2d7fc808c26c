"""``python -m parallel_exec``: the command ``pexec``."""

import sys

from parallel_exec.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
