"""The runtimes: native code, this package's sandboxes and pools, and wasmtime's other compilers in their place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import wasmtime

from parallel_exec._codec import arrays
from parallel_exec._codec.message_pack import decode, pack
from parallel_exec.limits import Limits
from parallel_exec.plugins import Plugin, PluginFunction, WasmPlugin
from parallel_exec.pool import Pool
from parallel_exec.sandbox import Sandbox
from parallel_exec.sandbox._console import log_record
from parallel_exec.sandbox._engine.engine import MODULE_STACK, Backend, Engine
from parallel_exec.sandbox._wasm.runner import WasmRunner
from parallel_exec.verify.messages import Signed, batch
from parallel_exec.verify.modules import FOLDER, module_path
from parallel_exec.verify.verifier import Missing, Verifier, groups

VALID = 0


class Native(Verifier):
    """libsecp256k1 as compiled for this machine, called through coincurve from Python, a call for each message."""

    name = "native (coincurve)"

    def prepare(self) -> None:
        from coincurve import PublicKey, PublicKeyXOnly

        self._ecdsa, self._schnorr = PublicKey, PublicKeyXOnly

    def verify(self, messages: Sequence[Signed]) -> list[bool]:
        ecdsa, schnorr = self._ecdsa, self._schnorr
        return [
            (schnorr if kind == "schnorr" else ecdsa)(public_key).verify(signature, message)
            for kind, public_key, signature, message, _valid in messages
        ]


class Module(Verifier):
    """A module in this package's sandbox, reset after each call, whichever of wasmtime's compilers made its code."""

    def __init__(self, backend: Backend, module: str, build: str) -> None:
        self.name = f"wasmtime {backend.capitalize()}"
        self.build = build
        self._backend = backend
        self._module = module
        self._runner: WasmRunner

    def prepare(self) -> None:
        plugin = WasmPlugin.from_file(module_path(self._module))
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


class ModuleBatch(Module):
    """The same, all messages in one call."""

    how = "batch"

    def verify(self, messages: Sequence[Signed]) -> list[bool]:
        _kind, answer = self._runner.run("verify_batch", batch(messages), arrays.BYTES, None)
        return [status == VALID for status in answer]


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
    """A plugin in a pool of processes: the time that all messages take, by their number."""

    def __init__(self, name: str, pool: Pool, workers: int, function: PluginFunction, build: str = "") -> None:
        self.name = f"{name}, pool"
        self._workers = workers
        self.build = build
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
        grouped = groups(messages, self._workers)
        if self._function.input == "binary":
            answers = self._pool.map(self._function, map(batch, grouped))
            return [status == VALID for answer in answers for status in answer]
        documents = ([message.in_hex() for message in group] for group in grouped)
        return [answer["valid"] for answers in self._pool.map(self._function, documents) for answer in answers]


def javascript_plugin() -> Plugin:
    """Return the plugin that verifies in JavaScript."""
    return Plugin.from_file(FOLDER / "verify.js", kind="module")


def module_plugin(module: str) -> WasmPlugin:
    """Return the plugin of a verification module.

    Raises:
        PluginError: it is not built.
    """
    return WasmPlugin.from_file(module_path(module))
