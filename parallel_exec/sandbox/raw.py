"""What wasmtime's package does not offer: calls into WebAssembly without its checked call path, and a larger stack.

`wasmtime.Func.__call__` looks the function's type up and converts every value on each call: 7.8 us. The exports that a
job needs take no parameters, so `wasmtime_func_call_unchecked` with arguments prepared once does the same in 0.5 us. It
is private to wasmtime's package; this module is the only one that touches it, and where it is missing or differs,
`bind` returns the public call. Both are tested.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable

import wasmtime


def set_max_wasm_stack(config: wasmtime.Config, size: int) -> None:
    """Set ``config.max_wasm_stack``, beyond the 2 MiB that wasmtime's package allows where that is possible.

    2 MiB is the default size of the stacks of asynchronous calls. Nobody here makes any, but wasmtime insists that the
    limit fits them, and only its C interface can enlarge them.
    """
    from wasmtime import _ffi as ffi

    try:
        enlarge = ffi.dll["wasmtime_config_async_stack_size_set"]
        enlarge.argtypes, enlarge.restype = [ctypes.c_void_p, ctypes.c_size_t], None
        enlarge(ctypes.cast(config.ptr(), ctypes.c_void_p), size)
    except (AttributeError, ImportError):
        size = min(size, 2 << 20)
    config.max_wasm_stack = size


class Trapped(Exception):
    """WebAssembly trapped. The instance must not be used again.

    Attributes:
        stack_overflow: the native stack was exhausted (the engine's own limit should have come first).
        out_of_fuel: a metered engine used up its budget.
        interrupted: an engine with epochs reached its deadline.
    """

    def __init__(self, trap: wasmtime.Trap) -> None:
        super().__init__(str(trap).strip().splitlines()[-1].rpartition("wasm trap: ")[2])
        code = _trap_code(trap)
        self.stack_overflow = code is wasmtime.TrapCode.STACK_OVERFLOW
        self.out_of_fuel = code is wasmtime.TrapCode.OUT_OF_FUEL
        self.interrupted = code is wasmtime.TrapCode.INTERRUPT


def _trap_code(trap: wasmtime.Trap) -> wasmtime.TrapCode | None:
    try:
        return trap.trap_code
    except ValueError:  # a code younger than the bindings
        return None


def checked(store: wasmtime.Store, function: wasmtime.Func) -> Callable[[], None]:
    """Return a callable that calls `function`, which takes and returns nothing, through the public interface."""

    def call() -> None:
        try:
            function(store)
        except wasmtime.Trap as trap:
            raise Trapped(trap) from None

    return call


def unchecked(store: wasmtime.Store, function: wasmtime.Func) -> Callable[[], None]:
    """Like `checked`, through `wasmtime_func_call_unchecked`.

    Raises:
        AttributeError: this wasmtime does not have what is needed.
    """
    from wasmtime import _ffi as ffi

    # Indexing, unlike attribute access, makes a function object of our own, whose types we may set.
    entry = ffi.dll["wasmtime_func_call_unchecked"]
    entry.restype = ctypes.c_void_p
    context = ctypes.cast(store._context(), ctypes.c_void_p)
    raw_function = function._func
    callee = ctypes.cast(ctypes.byref(raw_function), ctypes.c_void_p)
    values = (ctypes.c_uint8 * 16)()  # room for one wasmtime_val_raw_t, which holds neither parameter nor result
    trap = ctypes.POINTER(ffi.wasm_trap_t)()
    trap_out = ctypes.byref(trap)
    none = ctypes.c_size_t(0)
    # Looked up once so that an incompatible wasmtime is noticed here, not in a job that traps.
    trap_from, error_from, error_type = wasmtime.Trap._from_ptr, wasmtime.WasmtimeError._from_ptr, ffi.wasmtime_error_t

    def call(_keep: object = (raw_function, store)) -> None:
        error = entry(context, callee, values, none, trap_out)
        if trap:
            pointer = ctypes.cast(trap, ctypes.POINTER(ffi.wasm_trap_t))
            trap.contents  # noqa: B018 - a null here would be a wasmtime that broke its contract
            found = trap_from(pointer)
            ctypes.memset(ctypes.byref(trap), 0, ctypes.sizeof(trap))
            raise Trapped(found)
        if error:
            failure = error_from(ctypes.cast(error, ctypes.POINTER(error_type)))
            raise take_exception() or failure

    return call


def take_exception() -> BaseException | None:
    """Return, and forget, the exception that a callback into Python ended the call with: wasmtime's package keeps it
    for its own, checked, calls, and would raise it at the next one that fails.
    """
    from wasmtime import _func

    raised: BaseException | None = getattr(_func, "LAST_EXCEPTION", None)
    if raised is not None:
        _func.LAST_EXCEPTION = None
    return raised


def bind(store: wasmtime.Store, function: wasmtime.Func) -> Callable[[], None]:
    """Return the fastest callable for `function` that this wasmtime offers. It raises `Trapped` on a trap."""
    try:
        return unchecked(store, function)
    except (AttributeError, ImportError):
        return checked(store, function)
