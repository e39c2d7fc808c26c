"""The ways to verify that are compared: native code, WebAssembly modules in several runtimes, and JavaScript; one call
for each message or for many; in this process, in this package's pool, or in processes of the standard library.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from typing import Any

import wasmtime

from parallel_exec._codec import arrays
from parallel_exec._codec.message_pack import decode, pack
from parallel_exec.errors import PexecError
from parallel_exec.limits import Limits
from parallel_exec.plugins import Plugin, PluginFunction, WasmPlugin
from parallel_exec.pool import Pool
from parallel_exec.sandbox import Sandbox
from parallel_exec.sandbox._console import log_record
from parallel_exec.sandbox._engine.engine import MODULE_STACK, Backend, Engine
from parallel_exec.sandbox._wasm.runner import WasmRunner
from parallel_exec.verify.messages import Signed, batch
from parallel_exec.verify.modules import FOLDER, module_path

_VALID = 0  # of the statuses that verify_batch answers with (modules/status.h)
_WASM3_STACK = 64 * 1024
# The most messages that go to a worker at once: enough that copying them and waking the worker cost nothing in
# comparison. Groups are smaller where this size would leave workers idle.
_MOST_IN_GROUP = 64


class Missing(Exception):
    """A runtime is not available; the text says why."""


class Verifier(ABC):
    """One way to verify messages.

    Attributes:
        name: of the runtime.
        how: ``"message"``: one call for each message; ``"batch"``: many messages a call; ``"swap"``: one call for each
            message, to the module for its scheme.
        build: what the module is optimised for, if there is one: ``"speed"`` or ``"size"``.
    """

    name: str
    how: str = "message"
    build: str = ""

    @abstractmethod
    def prepare(self) -> None:
        """Do what is done once.

        Raises:
            Missing: the runtime is not available.
        """

    @abstractmethod
    def verify(self, messages: Sequence[Signed]) -> list[bool]:
        """Verify messages; this is what is timed."""

    def close(self) -> None:  # noqa: B027 - most hold nothing to release
        """Release what `prepare` took."""


class Native(Verifier):
    """libsecp256k1 compiled for this machine, which Python calls through coincurve once for each message."""

    name = "native (coincurve)"

    def prepare(self) -> None:
        from coincurve import PublicKey, PublicKeyXOnly

        self._ecdsa, self._schnorr = PublicKey, PublicKeyXOnly

    def verify(self, messages: Sequence[Signed]) -> list[bool]:
        ecdsa, schnorr = self._ecdsa, self._schnorr
        return [
            (schnorr if scheme == "schnorr" else ecdsa)(public_key).verify(signature, message)
            for scheme, public_key, signature, message, _valid in messages
        ]


class Wasmtime(Verifier):
    """A module in this package's sandbox, reset after each call, with code from any of wasmtime's compilers."""

    def __init__(self, backend: Backend, module: str, build: str) -> None:
        self.name = f"wasmtime {backend.capitalize()}"
        self.build = build
        self._backend = backend
        self._module = module
        self._runner: WasmRunner

    def prepare(self) -> None:
        plugin = module_plugin(self._module)
        limits = Limits()
        try:
            engine = Engine(epoch=True, stack=MODULE_STACK, backend=self._backend)
            self._runner = WasmRunner(plugin.capture(limits), limits, log_record, None, engine=engine)
        except (wasmtime.WasmtimeError, AttributeError) as error:
            raise Missing(str(error).splitlines()[0]) from None

    def verify(self, messages: Sequence[Signed]) -> list[bool]:
        run, kind = self._runner.run, arrays.MESSAGE_PACK
        return [decode(run("verify_message", pack(message.request()), kind, None)[1])["valid"] for message in messages]

    def close(self) -> None:
        self._runner.close()


class WasmtimeBatch(Wasmtime):
    """The same, all messages in one call."""

    how = "batch"

    def verify(self, messages: Sequence[Signed]) -> list[bool]:
        _kind, answer = self._runner.run("verify_batch", batch(messages), arrays.BYTES, None)
        return [status == _VALID for status in answer]


class Wasm3(Verifier):
    """A module in wasm3, an interpreter, through the package pywasm3. The module's memory lives from one call to the
    next: wasm3 has no reset, and these modules need none.
    """

    name = "wasm3"

    def __init__(self, build: str) -> None:
        self.build = build
        self._operation = self._payload = self._answer = b""

    def prepare(self) -> None:
        try:
            import wasm3
        except ImportError:
            raise Missing(
                "not installed: pip install pywasm3 (without a C compiler: see parallel_exec/verify/README.md)"
            ) from None
        environment = wasm3.Environment()
        self._runtime = environment.new_runtime(_WASM3_STACK)
        # For either scheme: knowing both costs nothing, and a module for each would be two more to ship.
        module = environment.parse_module(module_path(f"both-{self.build}-mvp").read_bytes())
        self._runtime.load(module)
        module.link_function("wapc", "__guest_request", "v(ii)", self._request)
        module.link_function("wapc", "__guest_response", "v(ii)", self._response)
        module.link_function("wapc", "__guest_error", "v(ii)", self._error)
        self._call: Any = self._runtime.find_function("__guest_call")

    def verify(self, messages: Sequence[Signed]) -> list[bool]:
        return [decode(self._run(b"verify_message", pack(message.request())))["valid"] for message in messages]

    def _run(self, operation: bytes, payload: bytes) -> bytes:
        self._operation, self._payload = operation, payload
        self._call(len(operation), len(payload))
        return self._answer

    # The module is ours and trusted: nothing but the memoryview checks its addresses.

    def _request(self, operation: int, payload: int) -> None:
        memory = self._runtime.get_memory(0)
        memory[operation : operation + len(self._operation)] = self._operation
        memory[payload : payload + len(self._payload)] = self._payload

    def _response(self, address: int, length: int) -> None:
        self._answer = bytes(self._runtime.get_memory(0)[address : address + length])

    def _error(self, address: int, length: int) -> None:
        text = bytes(self._runtime.get_memory(0)[address : address + length]).decode()
        raise PexecError(f"wasm3: the module says: {text}")


class Wasm3Batch(Wasm3):
    """The same, all messages in one call."""

    how = "batch"

    def verify(self, messages: Sequence[Signed]) -> list[bool]:
        return [status == _VALID for status in self._run(b"verify_batch", batch(messages))]


class JavaScript(Verifier):
    """The plugin in JavaScript, in this package's sandbox."""

    name = "JavaScript in QuickJS"

    def prepare(self) -> None:
        self._sandbox = Sandbox(javascript_plugin())

    def verify(self, messages: Sequence[Signed]) -> list[bool]:
        call = self._sandbox.call
        return [call("verify_message", message.in_hex())["valid"] for message in messages]

    def close(self) -> None:
        self._sandbox.close()


class JavaScriptBatch(JavaScript):
    """The same, all messages in one call."""

    how = "batch"

    def verify(self, messages: Sequence[Signed]) -> list[bool]:
        answers = self._sandbox.call("verify_batch", [message.in_hex() for message in messages])
        return [answer["valid"] for answer in answers]


class Pooled(Verifier):
    """A plugin in this package's pool. The time per message is the time for all of them, divided by their number."""

    def __init__(self, name: str, pool: Pool, workers: int, function: PluginFunction, build: str = "") -> None:
        self.name = f"{name}, pool"
        self.build = build
        self._workers = workers
        self._pool = pool
        self._function = function

    def prepare(self) -> None:
        self._pool.warm_up(self._function)

    def verify(self, messages: Sequence[Signed]) -> list[bool]:
        documents: list[Any] = [message.request() for message in messages]
        if self._function.input == "json":
            documents = [message.in_hex() for message in messages]
        return [answer["valid"] for answer in self._pool.map(self._function, documents)]


class PooledBatch(Pooled):
    """The same, several messages in one call."""

    how = "batch"

    def verify(self, messages: Sequence[Signed]) -> list[bool]:
        grouped = _groups(messages, self._workers)
        if self._function.input == "binary":
            answers = self._pool.map(self._function, map(batch, grouped))
            return [status == _VALID for answer in answers for status in answer]
        documents = ([message.in_hex() for message in group] for group in grouped)
        return [answer["valid"] for answers in self._pool.map(self._function, documents) for answer in answers]


class InProcesses(Verifier):
    """Another way to verify, in every process of the standard library's executor: for the runtimes that this package's
    pool does not run. The time per message is the time for all of them, divided by their number.

    Messages are sent in groups, as the executor's `chunksize` would, even when each is a call of its own there.
    """

    def __init__(self, verifier: Verifier, executor: ProcessPoolExecutor, workers: int) -> None:
        self.name = f"{verifier.name}, processes"
        self.how = verifier.how
        self.build = verifier.build
        self._verifier = verifier
        self._executor = executor
        self._workers = workers

    def prepare(self) -> None:
        prepared: set[int] = set()
        while len(prepared) < self._workers:
            prepared.update(self._executor.map(_prepare_here, [self._verifier] * self._workers))

    def verify(self, messages: Sequence[Signed]) -> list[bool]:
        answers = self._executor.map(_verify_here, repeat(self._verifier), _groups(messages, self._workers))
        return [valid for answer in answers for valid in answer]


# In a process of the executor: what it has prepared so far.
_ready: dict[tuple[str, str, str], Verifier] = {}


def _prepare_here(verifier: Verifier) -> int:
    """Prepare, and return the id of this process."""
    key = _key(verifier)
    if key not in _ready:
        verifier.prepare()
        _ready[key] = verifier
    return os.getpid()


def _verify_here(verifier: Verifier, messages: Sequence[Signed]) -> list[bool]:
    return _ready[_key(verifier)].verify(messages)


def _key(verifier: Verifier) -> tuple[str, str, str]:
    return verifier.name, verifier.how, verifier.build


def _groups(messages: Sequence[Signed], workers: int) -> list[Sequence[Signed]]:
    """Return messages in the groups in which they go to the workers."""
    size = max(1, min(_MOST_IN_GROUP, len(messages) // (4 * workers)))
    return [messages[start : start + size] for start in range(0, len(messages), size)]


def javascript_plugin() -> Plugin:
    """Return the plugin that verifies in JavaScript."""
    return Plugin.from_file(FOLDER / "verify.js", kind="module")


def module_plugin(module: str) -> WasmPlugin:
    """Return the plugin of a verification module.

    Raises:
        PluginError: it cannot be built.
    """
    return WasmPlugin.from_file(module_path(module))
