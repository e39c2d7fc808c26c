"""Host functions: Python functions that a plugin may call, by the names under which it calls them."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from parallel_exec.errors import PluginError

__all__ = ["HostFunction", "HostFunctions"]

HostFunction = Callable[..., Any]
"""Takes the plugin's arguments and returns the result of the call; all are JSON values."""

_NAME = re.compile(r"[A-Za-z_$][A-Za-z0-9_$]{0,99}")


class HostFunctions(Mapping[str, HostFunction]):
    """Functions by name: immutable, hashable, and pickled by reference, so that a pool's workers import them.

    Args:
        functions: callables by the names of the plugin's global functions.

    Raises:
        TypeError: something is not callable, or is a coroutine function.
        ValueError: a name is not an identifier.

    >>> import pickle, posixpath
    >>> functions = HostFunctions({"join": posixpath.join})
    >>> pickle.loads(pickle.dumps(functions)) == functions
    True
    >>> pickle.dumps(HostFunctions({"twice": lambda x: 2 * x}))
    Traceback (most recent call last):
    ...
    parallel_exec.errors.PluginError: the host function 'twice' (...<lambda>) cannot be sent to another process: ...
    """

    __slots__ = ("_functions",)

    def __init__(self, functions: Mapping[str, HostFunction] | None = None) -> None:
        self._functions = dict(sorted((functions or {}).items()))
        for name, function in self._functions.items():
            if not isinstance(name, str) or not _NAME.fullmatch(name):
                raise ValueError(f"a host function's name must be an identifier; got {name!r}")
            if not callable(function):
                raise TypeError(f"the host function {name!r} must be callable, not {type(function).__name__}")
            if inspect.iscoroutinefunction(function):
                raise TypeError(f"the host function {name!r} must not be async: a plugin's calls are synchronous")

    def references(self) -> dict[str, tuple[str, str]]:
        """Return, for each name, the module and the qualified name by which another process finds the function.

        Raises:
            PluginError: a function cannot be found that way.
        """
        return {name: _reference(name, function) for name, function in self._functions.items()}

    def identity(self) -> list[tuple[str, str]]:
        """Return, for each name, what identifies its function: its module and name or, without those, its address."""
        found = []
        for name, function in self._functions.items():
            try:
                found.append((name, ":".join(_reference(name, function))))
            except PluginError:
                found.append((name, f"{id(function):x}"))
        return found

    def __getitem__(self, name: str) -> HostFunction:
        return self._functions[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._functions)

    def __len__(self) -> int:
        return len(self._functions)

    def __hash__(self) -> int:
        return hash(tuple(self._functions))

    def __repr__(self) -> str:
        return repr(self._functions)

    def __deepcopy__(self, _memo: object) -> HostFunctions:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return _import, (self.references(),)


def _reference(name: str, function: HostFunction) -> tuple[str, str]:
    module = getattr(function, "__module__", None)
    qualified = getattr(function, "__qualname__", None)
    place = f"{module}.{qualified}" if isinstance(qualified, str) else repr(function)[:100]
    if isinstance(module, str) and isinstance(qualified, str) and module != "__main__":
        try:
            if _find(module, qualified) is function:
                return module, qualified
        except (ImportError, AttributeError):
            pass
    raise PluginError(
        f"the host function {name!r} ({place}) cannot be sent to another process: it must be a function at the top "
        "level of a module that workers can import, which __main__ is not"
    )


def _find(module: str, qualified: str) -> Any:
    found: Any = importlib.import_module(module)
    for part in qualified.split("."):
        found = getattr(found, part)
    return found


def _import(references: dict[str, tuple[str, str]]) -> HostFunctions:
    functions = {}
    for name, (module, qualified) in references.items():
        try:
            functions[name] = _find(module, qualified)
        except (ImportError, AttributeError) as error:
            raise PluginError(f"cannot import the host function {name!r} ({module}.{qualified}): {error}") from None
    return HostFunctions(functions)
