"""What wasmtime's package does not offer: fast calls into WebAssembly and out of it, fast setting of globals, and a
larger stack.

`wasmtime.Func.__call__` looks up the function's type and converts every value on each call: 7.8 us. The exports that a
job needs take no parameters, or numbers of 32 bits, so `wasmtime_func_call_unchecked` with arguments prepared once does
the same in 0.5 us. It is private to wasmtime's package and used only in this module; where it is missing or differs,
`bind`, `bind_numbers`, `define` and `global_setter` do the same by public means. Both ways are tested.
"""

# ruff: noqa: SLF001 - what wasmtime's package keeps private is used here and nowhere else

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable
from typing import Any

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


def use_winch(config: wasmtime.Config) -> None:
    """Have modules compiled by Winch, which wasmtime's package does not offer.

    Raises:
        AttributeError: its bindings differ.
    """
    from wasmtime import _ffi as ffi

    ffi.wasmtime_config_strategy_set(config.ptr(), 2)  # WASMTIME_STRATEGY_WINCH


_VALUE = 16  # bytes of a wasmtime_val_raw_t
_I32_MASK = 0xFFFFFFFF
_MASKS = {"i32": _I32_MASK, "i64": (1 << 64) - 1}
_FIELDS = {"i32": "I12x", "i64": "Q8x"}


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


def unchecked(store: wasmtime.Store, function: wasmtime.Func, values: Any = None) -> Callable[[], None]:
    """Like `checked`, through `wasmtime_func_call_unchecked`.

    Args:
        store: the function's store.
        function: what to call.
        values: a ctypes array of 16 bytes for each parameter or result, if the function has any.

    Raises:
        AttributeError: this wasmtime does not have what is needed.
    """
    from wasmtime import _ffi as ffi
    from wasmtime import _func as public

    # Indexing, unlike attribute access, makes a function object of our own, whose types we may set.
    entry = ffi.dll["wasmtime_func_call_unchecked"]
    entry.restype = ctypes.c_void_p
    context = ctypes.cast(store._context(), ctypes.c_void_p)
    raw_function = function._func
    callee = ctypes.cast(ctypes.byref(raw_function), ctypes.c_void_p)
    count = ctypes.c_size_t(0 if values is None else ctypes.sizeof(values) // _VALUE)
    values = values or (ctypes.c_uint8 * _VALUE)()
    trap = ctypes.POINTER(ffi.wasm_trap_t)()
    trap_out = ctypes.byref(trap)
    # Looked up here so that an incompatible wasmtime is noticed now, not in a job that traps.
    trap_from, error_from, error_type = wasmtime.Trap._from_ptr, wasmtime.WasmtimeError._from_ptr, ffi.wasmtime_error_t

    def call(_keep: object = (raw_function, store)) -> None:
        error = entry(context, callee, values, count, trap_out)
        if trap:
            pointer = ctypes.cast(trap, ctypes.POINTER(ffi.wasm_trap_t))
            trap.contents  # noqa: B018 - a null here would be a wasmtime that broke its contract
            found = trap_from(pointer)
            ctypes.memset(ctypes.byref(trap), 0, ctypes.sizeof(trap))
            raise Trapped(found)
        if error:
            failure = error_from(ctypes.cast(error, ctypes.POINTER(error_type)))
            # A callback through the public interface leaves there what it raised, for the package's own calls. The next
            # of those that fails, in any thread, would raise it.
            public.LAST_EXCEPTION = None
            raise failure

    return call


def bind(store: wasmtime.Store, function: wasmtime.Func) -> Callable[[], None]:
    """Return the fastest callable for `function` that this wasmtime offers. It raises `Trapped` on a trap."""
    try:
        return unchecked(store, function)
    except (AttributeError, ImportError):
        return checked(store, function)


def checked_numbers(store: wasmtime.Store, function: wasmtime.Func) -> Callable[..., int]:
    """Return a callable for `function`, whose parameters and result are i32, through the public interface."""

    def call(*numbers: int) -> int:
        try:
            return int(function(store, *numbers)) & _I32_MASK
        except wasmtime.Trap as trap:
            raise Trapped(trap) from None

    return call


def unchecked_numbers(store: wasmtime.Store, function: wasmtime.Func) -> Callable[..., int]:
    """Like `checked_numbers`, as `unchecked`."""
    parameters = len(function.type(store).params)
    pack = struct.Struct("<" + "I12x" * parameters).pack_into
    values = (ctypes.c_uint8 * (_VALUE * max(parameters, 1)))()
    result = ctypes.c_uint32.from_buffer(values)
    enter = unchecked(store, function, values)

    def call(*numbers: int) -> int:
        pack(values, 0, *numbers)
        enter()
        return result.value

    return call


def bind_numbers(store: wasmtime.Store, function: wasmtime.Func) -> Callable[..., int]:
    """Return the fastest callable for `function`, whose parameters and result are i32, taken as unsigned. It raises
    `Trapped` on a trap.
    """
    try:
        return unchecked_numbers(store, function)
    except (AttributeError, ImportError):
        return checked_numbers(store, function)


Failed = Callable[[BaseException], None]
"""Receives what a host function raises."""


def define_checked(
    linker: wasmtime.Linker,
    module: str,
    name: str,
    kind: wasmtime.FuncType,
    function: Callable[..., int | None],
    failed: Failed,
) -> object:
    """Define a host function through the public interface; return what has to live as long as its instances.

    wasmtime's package keeps what it raises in one place for all threads, and the first thread that looks raises it.
    """
    masks = [_MASKS[str(each)] for each in kind.params]

    def callback(*numbers: int) -> int | None:
        try:
            result = function(*(number & mask for number, mask in zip(numbers, masks, strict=True)))
        except BaseException as error:
            failed(error)
            raise
        return None if result is None else (result ^ 1 << 31) - (1 << 31)

    linker.define_func(module, name, kind, callback)
    return None


def define_unchecked(
    linker: wasmtime.Linker,
    module: str,
    name: str,
    kind: wasmtime.FuncType,
    function: Callable[..., int | None],
    failed: Failed,
) -> object:
    """Like `define_checked`, without the conversions: some 1 us a call instead of 6."""
    from wasmtime import _ffi as ffi

    size = _VALUE * len(kind.params)
    unpack = struct.Struct("<" + "".join(_FIELDS[str(each)] for each in kind.params)).unpack
    results = len(kind.results)
    string_at, number_at = ctypes.string_at, ctypes.c_uint32.from_address
    new_trap = ffi.wasmtime_trap_new

    def callback(_env: object, _caller: object, values: int, _count: int) -> int | None:
        try:
            result = function(*unpack(string_at(values, size)))
            if results:
                number_at(values).value = result or 0
        except BaseException as error:
            failed(error)
            return ctypes.cast(new_trap(b"host", 4), ctypes.c_void_p).value
        return None

    pointer = ctypes.c_void_p
    kept = ctypes.CFUNCTYPE(pointer, pointer, pointer, pointer, ctypes.c_size_t)(callback)
    entry = ffi.dll["wasmtime_linker_define_func_unchecked"]
    entry.restype = pointer
    texts = [text.encode() for text in (module, name)]
    error = entry(
        ctypes.cast(linker.ptr(), pointer),
        *(part for text in texts for part in (text, ctypes.c_size_t(len(text)))),
        ctypes.cast(kind.ptr(), pointer),
        kept,
        None,
        None,
    )
    if error:
        raise wasmtime.WasmtimeError._from_ptr(ctypes.cast(error, ctypes.POINTER(ffi.wasmtime_error_t)))
    return kept


def define(
    linker: wasmtime.Linker,
    module: str,
    name: str,
    kind: wasmtime.FuncType,
    function: Callable[..., int | None],
    failed: Failed,
) -> object:
    """Define a host function whose parameters are i32 or i64, taken as unsigned, and its result, if it has one, i32.
    What it raises goes to `failed` and ends the call into WebAssembly with a trap; nothing may be raised before it
    begins (`Callbacks`).

    Returns:
        What has to live as long as the linker's instances.
    """
    try:
        return define_unchecked(linker, module, name, kind, function, failed)
    except (AttributeError, ImportError):
        return define_checked(linker, module, name, kind, function, failed)


_NUMBERS = {"i32": "<i", "i64": "<q", "f32": "<f", "f64": "<d"}


def global_content(store: wasmtime.Store, item: wasmtime.Global) -> tuple[str, bytes]:
    """Return type and value of a global that is a number."""
    kind = str(item.type(store).content)
    return kind, struct.pack(_NUMBERS[kind], item.value(store))


def global_setter(store: wasmtime.Store, item: wasmtime.Global, kind: str, content: bytes) -> Callable[[], None]:
    """Return a callable that sets a global to a value of `global_content`: in 0.5 us; the public way takes 7."""
    (number,) = struct.unpack(_NUMBERS[kind], content)
    value = getattr(wasmtime.Val, kind)(number)
    try:
        from wasmtime import _ffi as ffi

        entry = ffi.dll["wasmtime_global_set"]
        entry.restype = ctypes.c_void_p
        context = ctypes.cast(store._context(), ctypes.c_void_p)
        target, raw_value = item._global, value._new_raw(store)
    except (AttributeError, ImportError):
        return lambda: item.set_value(store, value)
    arguments = context, ctypes.byref(target), ctypes.byref(raw_value)

    def set_value(_keep: object = (target, raw_value, value, store)) -> None:
        entry(*arguments)

    return set_value
