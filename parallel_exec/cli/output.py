"""Files that appear whole or not at all: written under another name beside their place, and renamed at the end."""

from __future__ import annotations

import errno
import os
import stat
import sys
import tempfile
from typing import BinaryIO, Self

from parallel_exec.cli.failures import Failure, os_failure, quiet_stdout
from parallel_exec.cli.interrupt import unfinished


class Output:
    """Where results go: a file, or stdout for ``-``. Made before the work starts, so that what cannot be written is
    known early.

    A context manager: `keep` makes the file appear, leaving without it leaves what was there before. What is no
    regular file, such as a named pipe or /dev/null, is written as it comes.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._name = "stdout" if path == "-" else path
        self._temporary: str | None = None
        self._target = path
        self._file: BinaryIO | None = None
        try:
            self._file = self._open()
        except OSError as error:
            raise self._refused(error) from None

    def _open(self) -> BinaryIO:
        if self.path == "-":
            if sys.stdout is None:
                raise OSError(errno.EBADF, "it is closed")
            return sys.stdout.buffer
        self._target = os.path.realpath(self.path)
        mode = None
        try:
            status = os.stat(self._target)
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
        folder, name = os.path.split(self._target)
        descriptor, self._temporary = tempfile.mkstemp(prefix=f".{name[:100]}.", suffix=".tmp", dir=folder)
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
            Failure: they cannot be written. BrokenPipeError: nobody reads stdout any more.
        """
        assert self._file is not None
        try:
            self._file.write(content)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise self._refused(error) from None

    def write_json(self, value: object) -> None:
        """Write a value, indented, as all there is, and `keep` it."""
        import json

        # Not orjson: an answer may hold lone surrogates, which it refuses.
        self.write(json.dumps(value, indent=2).encode() + b"\n")
        self.keep()

    def flush(self) -> None:
        """Let a reader of stdout or of a pipe see what has been written."""
        assert self._file is not None
        if self._temporary is None:
            try:
                self._file.flush()
            except BrokenPipeError:
                raise
            except OSError as error:
                raise self._refused(error) from None

    def _refused(self, error: OSError) -> Failure:
        if self.path == "-" and sys.stdout is not None:
            quiet_stdout()  # or what is still buffered would be tried again at exit
        return os_failure(f"cannot write {self._name}", error)

    def keep(self) -> None:
        """Finish: what has been written is the file from now on."""
        assert self._file is not None
        try:
            if self.path == "-":
                self._file.flush()
            else:
                self._file.close()
                if self._temporary is not None:
                    os.replace(self._temporary, self._target)
                    unfinished.discard(self._temporary)
                    self._temporary = None
        except BrokenPipeError:
            raise
        except OSError as error:
            raise self._refused(error) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        if self._temporary is not None:
            assert self._file is not None
            try:
                self._file.close()
            finally:
                os.unlink(self._temporary)
                unfinished.discard(self._temporary)
                self._temporary = None
