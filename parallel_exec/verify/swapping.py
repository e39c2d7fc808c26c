"""Messages of two kinds in a random order, each by the module of its kind: five ways to change the module."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import wasmtime

from parallel_exec._codec.message_pack import decode, pack
from parallel_exec.limits import Limits
from parallel_exec.sandbox import Sandbox
from parallel_exec.sandbox._engine import raw
from parallel_exec.sandbox._engine.engine import Engine
from parallel_exec.sandbox._wasm.instance import open_instance
from parallel_exec.sandbox._wasm.prepare import CALL, prepare
from parallel_exec.sandbox._wasm.wapc import Wapc
from parallel_exec.verify.messages import KINDS, Signed
from parallel_exec.verify.modules import module_path
from parallel_exec.verify.runtimes import module_plugin
from parallel_exec.verify.verifier import Verifier

Compile = Callable[[bytes], wasmtime.Module]


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
    """What all of them have: the two modules."""

    how = "swap"
    build = "speed"

    def __init__(self, name: str) -> None:
        self.name = name

    def prepare(self) -> None:
        self._engine = Engine()
        self._wasm = {kind: prepare(module_path(f"{kind}-speed-wide").read_bytes()) for kind in KINDS}
        self._modules = {kind: self._engine.compile(wasm) for kind, wasm in self._wasm.items()}


class Reloading(Swapping):
    """Whenever the kind changes, the module is had again from its bytes: compiled, or deserialised from the cache."""

    def __init__(self, name: str, *, cached: bool) -> None:
        super().__init__(name)
        self._cached = cached

    def verify(self, messages: Sequence[Signed]) -> list[bool]:
        current, loaded = "", None
        answers = []
        for message in messages:
            if loaded is None or message.kind != current:
                current = message.kind
                loaded = _Loaded(self._engine, self._engine.compile(self._wasm[current], cached=self._cached))
            answers.append(loaded.verify(message))
        return answers


class Instantiating(Swapping):
    """Both compiled modules are kept, and each message gets a new instance of its own."""

    def prepare(self) -> None:
        super().prepare()
        self._loaded = {kind: _Loaded(self._engine, module) for kind, module in self._modules.items()}

    def verify(self, messages: Sequence[Signed]) -> list[bool]:
        answers = []
        for message in messages:
            loaded = self._loaded[message.kind]
            loaded.renew()
            answers.append(loaded.verify(message))
        return answers


class Warm(Instantiating):
    """An instance of each is kept, and used without a reset: messages could see each other, if the module let them."""

    def verify(self, messages: Sequence[Signed]) -> list[bool]:
        return [self._loaded[message.kind].verify(message) for message in messages]


class Resetting(Swapping):
    """A sandbox of each, whose memory is the image again after each message: what this package does."""

    def prepare(self) -> None:
        self._sandboxes = {kind: Sandbox(module_plugin(f"{kind}-speed-wide")) for kind in KINDS}

    def verify(self, messages: Sequence[Signed]) -> list[bool]:
        sandboxes = self._sandboxes
        return [sandboxes[message.kind].call("verify_message", message.request())["valid"] for message in messages]

    def close(self) -> None:
        for sandbox in self._sandboxes.values():
            sandbox.close()


def all_ways() -> list[Verifier]:
    """Return the five."""
    return [
        Reloading("compiled anew at each change", cached=False),
        Reloading("deserialised at each change", cached=True),
        Instantiating("new instance for each message"),
        Warm("both warm, no reset"),
        Resetting("both warm, image reset"),
    ]
