"""A Redis stream as a queue of documents: the commands, and what happens when the connection is lost.

An entry is *pending* from when a consumer of the group is given it until it is acknowledged. Its result is added and it
is acknowledged in one script, which does neither if it is not pending any more: so there is one result for an entry,
however often it was run, and none without it.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    ClusterDownError,
    ConnectionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TimeoutError,
    TryAgainError,
)

from parallel_exec.errors import PexecError

T = TypeVar("T")
Fields = Mapping[bytes, bytes]

# Longest wait for new entries, and so about how late a stop is noticed.
BLOCK_MS = 200
_TIMEOUT_S = 10.0
_LONGEST_PAUSE_S = 1.0

# What Redis answers while it has no room, follows another, cannot save or waits for followers. That passes, and not
# sooner if the consumer ends.
_PASSING = (ConnectionError, TimeoutError, OutOfMemoryError, ReadOnlyError, TryAgainError, ClusterDownError)
_PASSING_CODES = ("NOREPLICAS", "MISCONF", "BUSY ")

# KEYS: the stream, where to add. ARGV: the group; for each entry its id, how many fields and values, and these. What is
# added comes before the acknowledgement, because a script that fails half-way is not rolled back.
_SETTLE = """
local settled, at = {}, 2
while at <= #ARGV do
  local id, n = ARGV[at], tonumber(ARGV[at + 1])
  if #redis.call('XPENDING', KEYS[1], ARGV[1], id, id, 1) == 1 then
    redis.call('XADD', KEYS[2], '*', unpack(ARGV, at + 2, at + 1 + n))
    redis.call('XACK', KEYS[1], ARGV[1], id)
    settled[#settled + 1] = id
  end
  at = at + 2 + n
end
return settled
"""


class QueueError(PexecError):
    """Redis refuses what the queue needs, or could not be reached when the consumer started."""


class Delivered(NamedTuple):
    """An entry that this consumer has been given.

    Attributes:
        id: its id in the stream, which every result of it has.
        fields: what it consists of.
        deliveries: how often it has been given to a consumer, this time included.
    """

    id: bytes
    fields: Fields
    deliveries: int


class RedisQueue:
    """One consumer's view of a stream. While Redis cannot be reached, every method waits until it can.

    Args:
        url: ``redis://`` (or ``rediss://``, ``unix://``), host, port and database.
        stream, group, consumer: their names; a group that does not exist is made, at the stream's beginning.
        on_lost: told, once each time, why the connection is gone.
    """

    def __init__(
        self, url: str, *, stream: str, group: str, consumer: str, on_lost: Callable[[str], None] = lambda text: None
    ) -> None:
        try:
            self._redis: Any = redis.asyncio.Redis.from_url(
                url,
                socket_timeout=_TIMEOUT_S,
                socket_connect_timeout=_TIMEOUT_S,
                retry=Retry(NoBackoff(), 0),  # this class does that
                client_name=f"pexec-{consumer}"[:60].replace(" ", "_"),
            )
        except (ValueError, RedisError) as error:
            raise QueueError(f"{url!r} is no address of a Redis: {error}") from None
        self.stream = stream
        self.group = group
        self.consumer = consumer
        self.losses = 0
        self._on_lost = on_lost
        self._settle = self._redis.register_script(_SETTLE)

    async def open(self) -> None:
        """Connect, and make the group if need be.

        Raises:
            QueueError: Redis cannot be reached, or refuses.
        """
        try:
            await self._make_group()
        except (ConnectionError, TimeoutError) as error:
            raise QueueError(f"cannot reach Redis: {_reason(error)}") from None
        except RedisError as error:
            raise QueueError(f"Redis refuses the group {self.group!r}: {error}") from None

    async def read(self, count: int) -> list[Delivered]:
        """Wait shortly for entries that nobody has been given, and return at most so many."""

        async def read() -> Any:
            return await self._redis.xreadgroup(
                self.group, self.consumer, {self.stream: ">"}, count=count, block=BLOCK_MS
            )

        found = await self._do(read)
        # As the protocol says: a list of pairs, or a dict.
        streams = found.values() if isinstance(found, dict) else [entries for _, entries in found or []]
        return [Delivered(ident, fields or {}, 1) for entries in streams for ident, fields in _flat(entries)]

    async def take_idle(self, idle_s: float, count: int) -> list[Delivered]:
        """Return at most so many entries that their consumers have not looked after for so many seconds."""

        async def claim() -> Any:
            return await self._redis.xautoclaim(
                self.stream, self.group, self.consumer, min_idle_time=round(idle_s * 1000), count=count
            )

        return await self._counted((await self._do(claim))[1])

    async def take(self, idents: Sequence[bytes]) -> list[Delivered]:
        """Return these entries once more, as far as they are pending; each counts as a delivery."""

        async def claim() -> Any:
            return await self._redis.xclaim(self.stream, self.group, self.consumer, 0, list(idents))

        return await self._counted(await self._do(claim))

    async def mine(self, count: int) -> list[bytes]:
        """Return the ids of at most so many entries that are pending with this consumer."""

        async def ask() -> Any:
            return await self._redis.xpending_range(self.stream, self.group, "-", "+", count, self.consumer)

        return [each["message_id"] for each in await self._do(ask)]

    async def refresh(self, idents: Sequence[bytes]) -> None:
        """Say that these entries are being looked after, so that nobody takes them."""

        async def claim() -> Any:
            return await self._redis.xclaim(self.stream, self.group, self.consumer, 0, list(idents), justid=True)

        await self._do(claim)

    async def settle(self, entries: Sequence[tuple[bytes, Mapping[str, Any]]], to: str) -> int:
        """Add what became of entries to a stream, and acknowledge them, in one step; return of how many.

        Those that are not pending any more, because another consumer has done the same, are left out.
        """
        arguments: list[Any] = [self.group]
        for ident, fields in entries:
            arguments += [ident, 2 * len(fields), *(part for pair in fields.items() for part in pair)]

        async def settle() -> Any:
            return await self._settle(keys=[self.stream, to], args=arguments)

        return len(await self._do(settle))

    async def leave(self) -> None:
        """Take this consumer out of the group if nothing is pending with it, and disconnect; fails silently."""
        try:
            if not await self._redis.xpending_range(self.stream, self.group, "-", "+", 1, self.consumer):
                await self._redis.xgroup_delconsumer(self.stream, self.group, self.consumer)
        except RedisError:
            pass
        finally:
            await self._redis.aclose()

    async def _counted(self, entries: Any) -> list[Delivered]:
        found = []
        for ident, fields in _flat(entries):

            async def ask(ident: bytes = ident) -> Any:
                return await self._redis.xpending_range(self.stream, self.group, ident, ident, 1)

            for pending in await self._do(ask):
                found.append(Delivered(ident, fields or {}, pending["times_delivered"]))
        return found

    async def _make_group(self) -> None:
        try:
            await self._redis.xgroup_create(self.stream, self.group, id="0", mkstream=True)
        except ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise

    async def _do(self, command: Callable[[], Awaitable[T]]) -> T:
        """Run a command, again and again if the connection is lost.

        Raises:
            QueueError: Redis refuses it.
        """
        pause = 0.02
        while True:
            try:
                return await command()
            except NoScriptError:
                continue  # Redis was restarted in between; the script is loaded the next time
            except RedisError as error:
                said = _reason(error)
                if said.startswith("UNBLOCKED"):
                    continue  # the stream was removed; NOGROUP is said next
                if said.startswith("NOGROUP"):
                    # Redis lost its data, or somebody removed the group: all that is there is delivered anew.
                    await self._do(self._make_group)
                    continue
                if not _passes(error):
                    raise QueueError(f"Redis refuses: {said}") from None
                if pause == 0.02:
                    self.losses += 1
                    self._on_lost(said)
                if isinstance(error, ReadOnlyError):
                    # Another one may be the primary now, under the same name.
                    await self._redis.connection_pool.disconnect()
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))
                pause = min(2 * pause, _LONGEST_PAUSE_S)


def _flat(entries: Any) -> list[tuple[bytes, Fields | None]]:
    """Entries as pairs; by the third version of the protocol those of a stream are a list in a list."""
    if entries and isinstance(entries[0], list) and entries[0] and isinstance(entries[0][0], list | tuple):
        return [(ident, fields) for part in entries for ident, fields in part]
    return [(ident, fields) for ident, fields in entries if ident is not None]


def _passes(error: RedisError) -> bool:
    if isinstance(error, AuthenticationError | AuthorizationError):  # connection errors, to redis-py
        return False
    return isinstance(error, _PASSING) or str(error).startswith(_PASSING_CODES)


def _reason(error: BaseException) -> str:
    return str(error) or type(error).__name__
