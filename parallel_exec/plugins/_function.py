"""Functions of plugins: what a sandbox or a pool is asked to run."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from parallel_exec._codec.documents import Input, Output
from parallel_exec._reprs import options
from parallel_exec.limits import Limits, check_limits
from parallel_exec.sandbox import Sandbox

if TYPE_CHECKING:
    from parallel_exec.plugins._base import AnyPlugin

_KEPT_SANDBOXES = 8


class _ThreadSandboxes(threading.local):
    """This thread's sandboxes, the most recently used last."""

    def __init__(self) -> None:
        self.sandboxes: OrderedDict[tuple[AnyPlugin, Limits | None], Sandbox] = OrderedDict()

    def get(self, plugin: AnyPlugin, limits: Limits | None) -> Sandbox:
        key = plugin, limits
        sandbox = self.sandboxes.get(key)
        if sandbox is None:
            sandbox = self.sandboxes[key] = Sandbox(plugin, limits=limits)
            if len(self.sandboxes) > _KEPT_SANDBOXES:
                self.sandboxes.popitem(last=False)[1].close()
        else:
            self.sandboxes.move_to_end(key)
        return sandbox


_sandboxes = _ThreadSandboxes()


@dataclass(frozen=True, repr=False)
class PluginFunction:
    """One function of a plugin. Calling it runs it in this thread's sandbox, under its own and its plugin's limits or
    the default ones; a pool runs it in a worker: ``pool.submit(function, document)``.

    >>> import pickle
    >>> from parallel_exec import Plugin
    >>> function = Plugin("const hello = who => `Hello, ${who}!`").function("hello", output="bytes")
    >>> pickle.loads(pickle.dumps(function))("world")
    b'"Hello, world!"'
    """

    plugin: AnyPlugin
    name: str
    input: Input = "json"
    output: Output = "value"
    limits: Limits | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise TypeError(f"a function's name must be a non-empty str, not {self.name!r}")
        if self.input not in self.plugin.inputs:
            raise ValueError(f"input must be {' or '.join(map(repr, self.plugin.inputs))}; got {self.input!r}")
        if self.output not in ("value", "bytes", "numpy"):
            raise ValueError(f"output must be 'value', 'bytes' or 'numpy'; got {self.output!r}")
        check_limits(self.limits, "limits")

    def __repr__(self) -> str:
        return f"<{', '.join([f'PluginFunction {self.name}() of {self.plugin.name!r}', *options(self)])}>"

    @cached_property
    def bounds(self) -> Limits | None:
        """The function's and its plugin's limits, the tightest of each; None if neither has any."""
        if self.limits is None or self.plugin.limits is None:
            return self.limits or self.plugin.limits
        return Limits.tightest(self.plugin.limits, self.limits)

    def __call__(self, document: Any) -> Any:
        """Run the function on a document in this thread's sandbox and return its result (see `Sandbox.call`)."""
        return _sandboxes.get(self.plugin, self.bounds).call(self.name, document, input=self.input, output=self.output)
