"""What the pool needs of an event loop: asyncio's, or trio's (anyio's programs run on one of these two).

Results come from the collector's thread, which must wait for no loop; so it only ever rings an `Alarm`.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


class Alarm(Protocol):
    """What one task waits for until any thread rings."""

    def ring(self) -> None:
        """End the wait, or the next one if there is none now. Does nothing if the loop has ended."""

    async def wait(self) -> None:
        """Wait for a ring since the last wait."""


class Loop(Protocol):
    """The event loop that runs the current task."""

    def alarm(self) -> Alarm:
        """Return a new alarm."""

    async def in_thread(self, function: Callable[[], T]) -> T:
        """Run a function in a thread of its own. It is run to its end, even if the waiting task is cancelled."""

    async def turn(self) -> None:
        """Let other tasks run."""

    def spawn(self, task: Callable[[], Awaitable[None]]) -> Callable[[], None]:
        """Run a task beside the current one; return what cancels it. It must not raise."""


def current_loop() -> Loop:
    """Return the loop that the calling coroutine runs in.

    Raises:
        RuntimeError: there is none.
    """
    trio: Any = sys.modules.get("trio")
    if trio is not None:
        with contextlib.suppress(RuntimeError):
            trio.lowlevel.current_task()
            return _TrioLoop(trio)
    try:
        return _AsyncioLoop(asyncio.get_running_loop())
    except RuntimeError:
        raise RuntimeError("acall and amap need a running event loop, asyncio's or trio's") from None


class _AsyncioLoop:
    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def alarm(self) -> Alarm:
        return _AsyncioAlarm(self._loop)

    async def in_thread(self, function: Callable[[], T]) -> T:
        return await self._loop.run_in_executor(None, function)

    async def turn(self) -> None:
        await asyncio.sleep(0)

    def spawn(self, task: Callable[[], Awaitable[None]]) -> Callable[[], None]:
        async def run() -> None:
            await task()

        running = self._loop.create_task(run())

        def cancel() -> None:
            running.cancel()

        return cancel


class _AsyncioAlarm:
    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._event = asyncio.Event()

    def ring(self) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._event.set)

    async def wait(self) -> None:
        await self._event.wait()
        self._event.clear()


class _TrioLoop:
    def __init__(self, trio: Any) -> None:
        self._trio = trio

    def alarm(self) -> Alarm:
        return _TrioAlarm(self._trio)

    async def in_thread(self, function: Callable[[], T]) -> T:
        with self._trio.CancelScope(shield=True):
            result: T = await self._trio.to_thread.run_sync(function)
        return result

    async def turn(self) -> None:
        await self._trio.lowlevel.checkpoint()

    def spawn(self, task: Callable[[], Awaitable[None]]) -> Callable[[], None]:
        scope = self._trio.CancelScope()

        async def run() -> None:
            with scope:
                await task()

        # A nursery would have to be left in the task that entered it, which the end of an async generator may not be
        # in.
        self._trio.lowlevel.spawn_system_task(run)

        def cancel() -> None:
            scope.cancel()

        return cancel


class _TrioAlarm:
    def __init__(self, trio: Any) -> None:
        self._trio = trio
        self._token = trio.lowlevel.current_trio_token()
        self._event = trio.Event()

    def ring(self) -> None:
        with contextlib.suppress(self._trio.RunFinishedError):
            self._token.run_sync_soon(self._set)

    def _set(self) -> None:
        self._event.set()

    async def wait(self) -> None:
        await self._event.wait()
        self._event = self._trio.Event()
