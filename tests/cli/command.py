"""Running `pexec`, in this process and in others."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from typing import Protocol


@dataclass
class Ran:
    """What a command line came to."""

    status: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        """What stderr says, without notes."""
        return [line for line in self.err.splitlines() if not line.startswith("pexec: note: ")]


class Pexec(Protocol):
    """Runs a command line in this process."""

    def __call__(self, *arguments: str, stdin: bytes = b"") -> Ran: ...


class PexecProcess(Protocol):
    """Runs a command line in a process of its own."""

    def __call__(self, *arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]: ...


class StartPexec(Protocol):
    """Starts a command line in a process group of its own."""

    def __call__(self, *arguments: str) -> subprocess.Popen[bytes]: ...


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "parallel_exec", *arguments]
