"""wasm3, an interpreter, through the package pywasm3, and our side of waPC for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from parallel_exec._codec.message_pack import decode, pack
from parallel_exec.errors import PexecError
from parallel_exec.verify.messages import Signed, batch
from parallel_exec.verify.modules import module_path
from parallel_exec.verify.runtimes import VALID
from parallel_exec.verify.verifier import Missing, Verifier

_STACK = 64 * 1024


class Wasm3(Verifier):
    """A module that keeps its memory from one call to the next: wasm3 has no reset, and these modules need none."""

    name = "wasm3"

    def __init__(self, module: str, build: str) -> None:
        self.build = build
        self._module = module
        self._operation = self._payload = self._answer = b""

    def prepare(self) -> None:
        try:
            import wasm3
        except ImportError:
            raise Missing("not installed: pip install pywasm3 (it has no wheels, and needs a C compiler)") from None
        environment = wasm3.Environment()
        self._runtime = environment.new_runtime(_STACK)
        module = environment.parse_module(module_path(self._module).read_bytes())
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

    # Trusting the module, which is ours: its addresses are not checked but by the memoryview.

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
        return [status == VALID for status in self._run(b"verify_batch", batch(messages))]
