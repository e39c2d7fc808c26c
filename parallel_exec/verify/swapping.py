"""Messages of both signature schemes in a random order, each verified by the module for its scheme: five ways to
change the module.
"""

from __future__ import annotations

from collections.abc import Sequence

import wasmtime

from parallel_exec._codec.message_pack import decode, pack
from parallel_exec.limits import Limits
from parallel_exec.sandbox import Sandbox
from parallel_exec.sandbox._engine import raw
from parallel_exec.sandbox._engine.engine import Engine
from parallel_exec.sandbox._wasm.instance import open_instance
from parallel_exec.sandbox._wasm.prepare import CALL, prepare
from parallel_exec.sandbox._wasm.wapc import Wapc
from parallel_exec.verify.messages import SCHEMES, Signed
from parallel_exec.verify.modules import module_path
from parallel_exec.verify.runtimes import Verifier, module_plugin


class _Loaded:
    """An instance of a module, without the sandbox around it."""

    def __init__(self, engine: Engine, module: wasmtime.Module) -> None:
        self._engine = engine
        self._wapc = Wapc(engine, module, Limits(), None)
        self.renew()

    def renew(self) -> None:
        """Take a new instance."""
        instance = open_instance(self._wapc, self._engine, Limits())
        call = instance.function(CALL)
        assert call is not None
        self._call = raw.bind_numbers(instance.store, call)

    def verify(self, message: Signed) -> bool:
        payload = pack(message.request())
        self._wapc.request(b"verify_message", payload)
        self._call(len(b"verify_message"), len(payload))
        return bool(decode(self._wapc.answer)["valid"])


class Swapping(Verifier):
    """What all of them share: the two modules, compiled."""

    how = "swap"
    build = "speed"

    def __init__(self, name: str) -> None:
        self.name = name

    def prepare(self) -> None:
        self._engine = Engine()
        self._wasm = {scheme: prepare(module_path(f"{scheme}-speed-wide").read_bytes()) for scheme in SCHEMES}
        self._modules = {scheme: self._engine.compile(wasm) for scheme, wasm in self._wasm.items()}


class Reloading(Swapping):
    """Whenever the scheme changes, the module is compiled again from its bytes, or deserialised from the cache."""

    def __init__(self, name: str, *, cached: bool) -> None:
        super().__init__(name)
        self._cached = cached

    def verify(self, messages: Sequence[Signed]) -> list[bool]:
        current, loaded = "", None
        answers = []
        for message in messages:
            if loaded is None or message.scheme != current:
                current = message.scheme
                loaded = _Loaded(self._engine, self._engine.compile(self._wasm[current], cached=self._cached))
            answers.append(loaded.verify(message))
        return answers


class Instantiating(Swapping):
    """Both compiled modules are kept, and each message gets a new instance of its own."""

    def prepare(self) -> None:
        super().prepare()
        self._loaded = {scheme: _Loaded(self._engine, module) for scheme, module in self._modules.items()}

    def verify(self, messages: Sequence[Signed]) -> list[bool]:
        answers = []
        for message in messages:
            loaded = self._loaded[message.scheme]
            loaded.renew()
            answers.append(loaded.verify(message))
        return answers


class Warm(Instantiating):
    """An instance of each is kept and used without a reset: a message could see earlier ones if the module let it."""

    def verify(self, messages: Sequence[Signed]) -> list[bool]:
        return [self._loaded[message.scheme].verify(message) for message in messages]


class Resetting(Swapping):
    """A sandbox of each, whose memory is reset to its image after each message: what this package does."""

    def prepare(self) -> None:
        self._sandboxes = {scheme: Sandbox(module_plugin(f"{scheme}-speed-wide")) for scheme in SCHEMES}

    def verify(self, messages: Sequence[Signed]) -> list[bool]:
        sandboxes = self._sandboxes
        return [sandboxes[message.scheme].call("verify_message", message.request())["valid"] for message in messages]

    def close(self) -> None:
        for sandbox in self._sandboxes.values():
            sandbox.close()


def swapping_verifiers() -> list[Verifier]:
    """Return the five."""
    return [
        Reloading("compiled anew at each change", cached=False),
        Reloading("deserialised at each change", cached=True),
        Instantiating("new instance for each message"),
        Warm("both warm, no reset"),
        Resetting("both warm, image reset"),
    ]
