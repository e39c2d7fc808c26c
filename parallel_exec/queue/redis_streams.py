"""A Redis stream as a queue of documents: the commands, and what happens when the connection is lost.

An entry is *pending* from its delivery to a consumer of the group until it is acknowledged. One script adds its result
and acknowledges it, and does neither if the entry is not pending any more: so an entry gets one result, however often
it is run, and is not acknowledged without one.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import redis.asyncio
from redis import exceptions
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from parallel_exec.errors import PexecError

T = TypeVar("T")
Fields = Mapping[bytes, bytes]

# The longest wait for new entries, and so about how long a stop takes to be noticed.
BLOCK_MS = 200
_TIMEOUT_S = 10.0
_FIRST_PAUSE_S = 0.02
_LONGEST_PAUSE_S = 1.0

# What Redis answers while it is out of memory, is a replica, cannot save or waits for replicas. That passes, and no
# sooner if the consumer ends.
_PASSING = (
    exceptions.ConnectionError,
    exceptions.TimeoutError,
    exceptions.OutOfMemoryError,
    exceptions.ReadOnlyError,
    exceptions.TryAgainError,
    exceptions.ClusterDownError,
)
_PASSING_CODES = ("NOREPLICAS", "MISCONF", "BUSY ")

# KEYS: the stream, and the one to add to. ARGV: the group; for each entry its id, the number of fields and values, and
# these. Adding comes before acknowledging, because a script that fails half-way is not rolled back.
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
    """Redis rejected a command, or could not be reached when the consumer started."""


class Delivered(NamedTuple):
    """An entry that was delivered to this consumer.

    Attributes:
        id: its id in the stream, which its result carries.
        fields: its fields and their values.
        deliveries: how often it has been delivered to a consumer, including this time.
    """

    id: bytes
    fields: Fields
    deliveries: int


class RedisQueue:
    """One consumer's view of a stream. While Redis cannot be reached, every method waits until it can.

    Args:
        url: ``redis://`` (or ``rediss://``, ``unix://``), host, port and database.
        stream: the stream's name.
        group: the consumer group's name; a group that does not exist is created, at the stream's beginning.
        consumer: this consumer's name.
        on_lost: called once for each loss of the connection, with the reason.

    Raises:
        QueueError: the URL is malformed.
    """

    def __init__(
        self, url: str, *, stream: str, group: str, consumer: str, on_lost: Callable[[str], None] = lambda _: None
    ) -> None:
        try:
            self._redis: Any = redis.asyncio.Redis.from_url(
                url,
                socket_timeout=_TIMEOUT_S,
                socket_connect_timeout=_TIMEOUT_S,
                retry=Retry(NoBackoff(), 0),  # this class retries itself
                client_name=f"pexec-{consumer}"[:60].replace(" ", "_"),
            )
        except (ValueError, RedisError) as error:
            raise QueueError(f"{url!r} is not the address of a Redis: {error}") from None
        self.stream = stream
        self.group = group
        self.consumer = consumer
        self.losses = 0
        self._on_lost = on_lost
        self._settle = self._redis.register_script(_SETTLE)

    async def open(self) -> None:
        """Connect, and create the group if need be.

        Raises:
            QueueError: Redis cannot be reached, or rejects the group.
        """
        try:
            await self._make_group()
        except RedisError as error:
            await self._redis.aclose()
            if isinstance(error, exceptions.ConnectionError | exceptions.TimeoutError):
                raise QueueError(f"cannot reach Redis: {_reason(error)}") from None
            raise QueueError(f"Redis rejects the group {self.group!r}: {error}") from None

    async def read(self, count: int) -> list[Delivered]:
        """Wait briefly for entries that no consumer has been given, and return at most `count` of them.

        Raises:
            QueueError: Redis rejects the command.
        """

        async def read() -> Any:
            return await self._redis.xreadgroup(
                self.group, self.consumer, {self.stream: ">"}, count=count, block=BLOCK_MS
            )

        found = await self._do(read)
        # A list of pairs in version 2 of the protocol, a dict in version 3.
        streams = found.values() if isinstance(found, dict) else [entries for _, entries in found or []]
        return [Delivered(ident, fields or {}, 1) for entries in streams for ident, fields in _flat(entries)]

    async def take_idle(self, idle_s: float, count: int) -> list[Delivered]:
        """Take at most `count` entries that their consumers have not refreshed for `idle_s` seconds.

        Raises:
            QueueError: Redis rejects the command.
        """

        async def claim() -> Any:
            return await self._redis.xautoclaim(
                self.stream, self.group, self.consumer, min_idle_time=round(idle_s * 1000), count=count
            )

        return await self._counted((await self._do(claim))[1])

    async def take(self, idents: Sequence[bytes]) -> list[Delivered]:
        """Return these entries once more, except those that are no longer pending; this counts as a delivery of each.

        Raises:
            QueueError: Redis rejects the command.
        """

        async def claim() -> Any:
            return await self._redis.xclaim(self.stream, self.group, self.consumer, 0, list(idents))

        return await self._counted(await self._do(claim))

    async def mine(self, count: int) -> list[bytes]:
        """Return the ids of at most `count` entries that are pending with this consumer.

        Raises:
            QueueError: Redis rejects the command.
        """

        async def ask() -> Any:
            return await self._redis.xpending_range(self.stream, self.group, "-", "+", count, self.consumer)

        return [each["message_id"] for each in await self._do(ask)]

    async def refresh(self, idents: Sequence[bytes]) -> None:
        """Mark these entries as being worked on, so that no other consumer takes them.

        Raises:
            QueueError: Redis rejects the command.
        """

        async def claim() -> Any:
            return await self._redis.xclaim(self.stream, self.group, self.consumer, 0, list(idents), justid=True)

        await self._do(claim)

    async def settle(self, entries: Sequence[tuple[bytes, Mapping[str, Any]]], to: str) -> int:
        """Add the outcomes of entries to a stream and acknowledge the entries, in one step; return how many there were.

        Entries that are not pending any more, because another consumer has settled them, are left out.

        Raises:
            QueueError: Redis rejects the command.
        """
        arguments: list[Any] = [self.group]
        for ident, fields in entries:
            arguments += [ident, 2 * len(fields), *(part for pair in fields.items() for part in pair)]

        async def settle() -> Any:
            return await self._settle(keys=[self.stream, to], args=arguments)

        return len(await self._do(settle))

    async def leave(self) -> None:
        """Remove this consumer from the group if it has no pending entries, and disconnect; fails silently."""
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

            found += [Delivered(ident, fields or {}, each["times_delivered"]) for each in await self._do(ask)]
        return found

    async def _make_group(self) -> None:
        try:
            await self._redis.xgroup_create(self.stream, self.group, id="0", mkstream=True)
        except exceptions.ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise

    async def _do(self, command: Callable[[], Awaitable[T]]) -> T:
        """Run a command, again and again while the connection is lost.

        Raises:
            QueueError: Redis rejects it.
        """
        pause = _FIRST_PAUSE_S
        while True:
            try:
                return await command()
            except exceptions.NoScriptError:
                continue  # Redis was restarted meanwhile; the next attempt loads the script
            except RedisError as error:
                said = _reason(error)
                if said.startswith("UNBLOCKED"):
                    continue  # the stream was removed; NOGROUP is said next
                if said.startswith("NOGROUP"):
                    # Redis lost its data, or somebody removed the group: everything there is delivered anew.
                    await self._do(self._make_group)
                    continue
                if not _passes(error):
                    raise QueueError(f"Redis rejects a command: {said}") from None
                if pause == _FIRST_PAUSE_S:
                    self.losses += 1
                    self._on_lost(said)
                if isinstance(error, exceptions.ReadOnlyError):
                    # Another server may be the primary now, under the same name.
                    await self._redis.connection_pool.disconnect()
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - spreads reconnecting clients; nothing secret
                pause = min(2 * pause, _LONGEST_PAUSE_S)


def _flat(entries: Any) -> list[tuple[bytes, Fields | None]]:
    """Return entries as pairs; version 3 of the protocol nests a stream's entries in another list."""
    if entries and isinstance(entries[0], list) and entries[0] and isinstance(entries[0][0], list | tuple):
        return [(ident, fields) for part in entries for ident, fields in part]
    return [(ident, fields) for ident, fields in entries if ident is not None]


def _passes(error: RedisError) -> bool:
    if isinstance(
        error, exceptions.AuthenticationError | exceptions.AuthorizationError
    ):  # redis-py counts them as connection errors
        return False
    return isinstance(error, _PASSING) or str(error).startswith(_PASSING_CODES)


def _reason(error: BaseException) -> str:
    return str(error) or type(error).__name__
