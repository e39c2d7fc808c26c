"""Every error that parallel_exec raises on purpose.

One root, `PexecError`; each leaf also subclasses the closest built-in exception, so that ``except TimeoutError`` or
``except ValueError`` does what its reader expects. All of them survive pickling, with their attributes, because a job
that fails in a worker raises in the parent.
"""

from __future__ import annotations

from concurrent.futures.process import BrokenProcessPool
from typing import Any, Self

__all__ = [
    "FuelExhausted",
    "InvalidDocument",
    "JSError",
    "JobTimeout",
    "MemoryLimitExceeded",
    "OutputTooLarge",
    "PexecError",
    "PluginError",
    "WasmError",
    "WorkerCrashed",
]


class PexecError(Exception):
    """The root of every error of this package.

    Attributes:
        plugin: name of the plugin concerned, or None if there is no plugin.
        function: name of the plugin's function that ran, or None.
        document: index of the document in a map (from 0), or None outside a map.
        group_item: if one job took the values of several documents (a fold or reduce), the position of the document at
            whose values it failed; None if that is not known, or for any other job.

    >>> str(PexecError("out of paper").at(plugin="track.js", function="calculate", document=3))
    'track.js: calculate(): document 3: out of paper'
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.plugin: str | None = None
        self.function: str | None = None
        self.document: int | None = None
        self.group_item: int | None = None

    def at(self, *, plugin: str | None = None, function: str | None = None, document: int | None = None) -> Self:
        """Fill in where the error happened, unless it is known already, and return the error itself."""
        if self.plugin is None:
            self.plugin = plugin
        if self.function is None:
            self.function = function
        if self.document is None:
            self.document = document
        return self

    def __str__(self) -> str:
        parts = []
        if self.plugin is not None:
            parts.append(self.plugin)
        if self.function is not None:
            parts.append(f"{self.function}()")
        if self.document is not None:
            parts.append(f"document {self.document}")
        parts.append(str(self.args[0]) if self.args else type(self).__name__)
        return ": ".join(parts)

    def __reduce__(self) -> tuple[Any, ...]:
        # Leaves may take other arguments than the text, so __init__ is not called again.
        return _rebuild, (type(self), self.args, self.__dict__.copy())


def _rebuild(cls: type[PexecError], args: tuple[Any, ...], state: dict[str, Any]) -> PexecError:
    # Not cls.__new__: by the order of inheritance that may be MemoryError's, whose layout the instances do not have.
    base: type = cls
    while base.__module__ != "builtins":
        base = base.__base__ or object
    error: PexecError = base.__new__(cls, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class PluginError(PexecError, ValueError):
    """The plugin itself is unusable: its source does not compile, its top level throws, a function is missing, a module
    lacks exports or wants unknown imports, or a memory image does not belong to this engine. A function that fails
    while it runs raises `JSError` or `WasmError` instead.

    Attributes:
        file, line, column: where in the plugin's source, from 1, or None if that is not known.
    """

    def __init__(
        self, text: str, *, file: str | None = None, line: int | None = None, column: int | None = None
    ) -> None:
        super().__init__(text)
        self.file = file
        self.line = line
        self.column = column


class JSError(PexecError, RuntimeError):
    """The plugin's function threw, or its promise was rejected. A plugin that cannot even be loaded raises
    `PluginError`.

    Attributes:
        name: the JavaScript error's name, such as ``"TypeError"``; ``"throw"`` for a thrown value that is not an Error.
        message: its message, or the thrown value as text.
        js_stack: the JavaScript stack, one ``at function (file:line:column)`` a line; empty if there is none.
        file, line, column: the innermost frame of that stack that is in a file, from 1, or None. The plugin can forge
            these, like everything else about its errors.
    """

    def __init__(
        self,
        name: str,
        message: str,
        js_stack: str = "",
        *,
        file: str | None = None,
        line: int | None = None,
        column: int | None = None,
    ) -> None:
        where = f" (at {file}:{line}:{column})" if file is not None else ""
        super().__init__(f"{name}: {message}{where}" if message else f"{name}{where}")
        self.name = name
        self.message = message
        self.js_stack = js_stack
        self.file = file
        self.line = line
        self.column = column


class WasmError(PexecError, RuntimeError):
    """A WebAssembly module's function failed: the module reported it (waPC's ``__guest_error``), or it trapped.
    JavaScript's is `JSError`. A module that cannot even be loaded raises `PluginError`.

    Attributes:
        message: what the module reported, or what happened to it.
        trapped: whether it was stopped in the middle of something, by a trap or for breaking the protocol.
    """

    def __init__(self, message: str, *, trapped: bool = False) -> None:
        super().__init__(message)
        self.message = message
        self.trapped = trapped


class InvalidDocument(PexecError, ValueError):
    """The document is not JSON, or larger than the limits allow; the plugin's function was not called.

    Attributes:
        offset: offset of the first byte that cannot be JSON, or None if the document was refused unread.
    """

    def __init__(self, text: str, *, offset: int | None = None) -> None:
        super().__init__(text if offset is None else f"{text} (at byte {offset})")
        self.offset = offset


class JobTimeout(PexecError, TimeoutError):
    """The job was still running at its deadline (``Limits.time_s``) and was stopped."""


class MemoryLimitExceeded(PexecError, MemoryError):
    """The job asked for more linear memory than ``Limits.memory_bytes`` and did not recover from the refusal."""


class FuelExhausted(PexecError, RuntimeError):
    """The job used up its budget of instructions (``Limits.fuel``) and was stopped."""


class OutputTooLarge(PexecError, ValueError):
    """The result is larger than ``Limits.output_bytes``, or it is nested too deeply or has too many arrays and maps to
    become a Python value.
    """


class WorkerCrashed(PexecError, BrokenProcessPool):
    """The worker process that ran the job died. Only the job it was running fails with this."""
