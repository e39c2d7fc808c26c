"""Output files that appear whole or not at all: a temporary file is written beside them, and renamed at the end."""

from __future__ import annotations

import errno
import json
import os
import stat
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Self

from parallel_exec.cli.failures import os_failure, quiet_stdout
from parallel_exec.cli.startup import unfinished


class Output:
    """Where results go: a file, or stdout for ``-``. It is opened before the work starts, so that errors show early.

    As a context manager, it restores what was there before unless `keep` has been called. Anything that is not a
    regular file, such as a named pipe or /dev/null, is written to directly.

    Raises:
        Failure: the file cannot be written.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._temporary: str | None = None
        self._target = Path(path)
        try:
            self._file = self._open()
        except OSError as error:
            raise self._refused(error) from None

    def _open(self) -> BinaryIO:
        if self.path == "-":
            if sys.stdout is None:
                raise OSError(errno.EBADF, "it is closed")
            return sys.stdout.buffer
        self._target = Path(os.path.realpath(self.path))  # not resolve(), which raises for loops of links
        mode = None
        try:
            status = self._target.stat()
        except FileNotFoundError:
            pass
        else:
            if stat.S_ISDIR(status.st_mode):
                raise IsADirectoryError(errno.EISDIR, "Is a directory")
            if not stat.S_ISREG(status.st_mode):
                return open(self._target, "wb")
            if not os.access(self._target, os.W_OK):
                raise PermissionError(errno.EACCES, "Permission denied")
            mode = stat.S_IMODE(status.st_mode)
        descriptor, self._temporary = tempfile.mkstemp(
            prefix=f".{self._target.name[:100]}.", suffix=".tmp", dir=self._target.parent
        )
        unfinished.add(self._temporary)
        if mode is None:
            mask = os.umask(0)
            os.umask(mask)
            mode = 0o666 & ~mask
        os.fchmod(descriptor, mode)
        return os.fdopen(descriptor, "wb")

    def write(self, content: bytes) -> None:
        """Write bytes.

        Raises:
            Failure: they cannot be written.
            BrokenPipeError: nothing reads stdout any more.
        """
        try:
            self._file.write(content)
        except OSError as error:
            raise self._refused(error) from None

    def write_json(self, value: object) -> None:
        """Write a value, indented, as the whole content, and `keep` it.

        Raises:
            Failure: it cannot be written.
            BrokenPipeError: nothing reads stdout any more.
        """
        # Not orjson: an answer may hold lone surrogates, which it refuses.
        self.write(json.dumps(value, indent=2).encode() + b"\n")
        self.keep()

    def flush(self) -> None:
        """Let a reader of stdout or of a pipe see what has been written.

        Raises:
            Failure: it cannot be written.
            BrokenPipeError: nothing reads stdout any more.
        """
        if self._temporary is None:
            try:
                self._file.flush()
            except OSError as error:
                raise self._refused(error) from None

    def keep(self) -> None:
        """Finish: what has been written becomes the file.

        Raises:
            Failure: it cannot be written.
            BrokenPipeError: nothing reads stdout any more.
        """
        try:
            if self.path == "-":
                self._file.flush()
                return
            self._file.close()
            if self._temporary is not None:
                Path(self._temporary).replace(self._target)
        except OSError as error:
            raise self._refused(error) from None
        if self._temporary is not None:
            unfinished.discard(self._temporary)
            self._temporary = None

    def _refused(self, error: OSError) -> Exception:
        if isinstance(error, BrokenPipeError):
            return error
        if self.path == "-" and sys.stdout is not None:
            quiet_stdout()  # otherwise the interpreter would try to write the rest again at exit
        return os_failure(f"cannot write {'stdout' if self.path == '-' else self.path}", error)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        if self.path == "-":
            return
        with suppress(OSError):  # what could not be written has been reported
            self._file.close()
        if self._temporary is not None:
            Path(self._temporary).unlink()
            unfinished.discard(self._temporary)
            self._temporary = None
