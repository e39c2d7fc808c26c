"""Running, statistics and reports of ``pexec bench`` and ``pexec profile``."""
