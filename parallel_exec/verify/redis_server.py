"""A redis-server of one's own, for demonstrations and tests: on loopback, in a folder, and durable."""

from __future__ import annotations

import shutil
import socket
import subprocess
from pathlib import Path

from parallel_exec.errors import PexecError


class RedisServer:
    """A redis-server process. What it has acknowledged is still there after `kill` and `start`.

    Attributes:
        url: what clients connect to.

    Args:
        folder: where its data goes.

    Raises:
        PexecError: redis-server is not installed.
    """

    def __init__(self, folder: Path) -> None:
        if shutil.which("redis-server") is None:
            raise PexecError("redis-server is not installed; on Debian and Ubuntu: apt-get install redis-server")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self._port}/0"
        self._folder = folder
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start it, and return when it answers.

        Raises:
            PexecError: it ends instead.
        """
        options = {"port": self._port, "bind": "127.0.0.1", "dir": self._folder, "save": "", "daemonize": "no"}
        options |= {"appendonly": "yes", "appendfsync": "always"}
        arguments = [str(part) for name, value in options.items() for part in (f"--{name}", value)]
        # A session of its own, so that a Ctrl-C does not end it before those that use it.
        self._process = subprocess.Popen(
            ["redis-server", *arguments], stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if "Ready to accept connections" in line:
                return
        raise PexecError(f"redis-server ended with status {self._process.wait()} instead of starting")

    def kill(self) -> None:
        """End it at once, as a crash would. Calling it again does nothing."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None
