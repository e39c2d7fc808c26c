"""The client's side of one ExecuteStream.

::

    feeder thread    documents ──► window ──► (shared memory) ──► queue
    gRPC's thread    queue: whatever is there ──► request
    the caller       response ──► results; room in the window

Whatever has been drawn is sent at once, and together if it is much: so tiny documents do not cost a message each, and
none waits for one that its iterable has not made yet.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import grpc

from . import messages
from .failures import from_call, from_message
from .shm import Arena
from .values import Result

# What goes into one request, unless a single document is larger.
REQUEST_DOCUMENTS = 128
REQUEST_BYTES = 512 << 10
# Bytes of a stream's shared memory; a document larger than half of it is sent as bytes.
ARENA_BYTES = 32 << 20
# Bytes of documents that are drawn ahead, unless FEWEST documents are more.
AHEAD_BYTES = 24 << 20
FEWEST = 4

Content = bytes | bytearray | memoryview


def run_stream(
    start: Callable[[Iterator[Any]], Any],
    opened: dict[str, Any],
    contents: Iterator[Content],
    *,
    window: int,
    shared: bool,
) -> Iterator[Result]:
    """Begin a stream and yield its results as they come, values as bytes or errors.

    Args:
        start: begins the call, given its requests.
        opened: the StreamOpen message.
        contents: the documents' bytes.
        window: most documents drawn and not yet yielded.
        shared: whether to send them through shared memory.
    """
    feeder = _Feeder(contents, window, Arena(ARENA_BYTES) if shared else None)
    call = start(feeder.requests(opened))
    try:
        for response in call:
            feeder.ended([outcome.document for outcome in response.outcomes])
            for outcome in response.outcomes:
                if outcome.HasField("failure"):
                    yield Result(outcome.document, outcome.version, from_message(outcome.failure))
                else:
                    yield Result(outcome.document, outcome.version, outcome.result)
        if feeder.error is not None:
            raise feeder.error
    except grpc.RpcError as error:
        raise from_call(error) from None
    finally:
        feeder.stop()
        call.cancel()


class _Feeder:
    """Draws documents in a thread of its own, as far ahead as the window allows.

    Attributes:
        error: what the iterable of documents raised in place of more.
    """

    def __init__(self, contents: Iterator[Content], window: int, arena: Arena | None) -> None:
        self.error: BaseException | None = None
        self._contents = contents
        self._window = window
        self._arena = arena
        self._ahead: dict[int, tuple[int, int | None]] = {}  # of documents drawn: bytes, and offset in the arena
        self._ahead_bytes = 0
        self._drawn = 0
        self._stopped = False
        self._changed = threading.Condition()
        self._queue: queue.SimpleQueue[Any] = queue.SimpleQueue()  # Document messages; None at the end
        self._thread = threading.Thread(target=self._run, name="pexec documents", daemon=True)

    def requests(self, opened: dict[str, Any]) -> Iterator[Any]:
        """Yield the stream's requests; called by gRPC's thread."""
        memory = self._arena.handle if self._arena is not None else ""
        yield messages.StreamRequest(open=opened | {"memory": memory})
        self._thread.start()
        while (document := self._queue.get()) is not None:
            request = messages.StreamRequest(documents=[document])
            size = len(document.content)
            with suppress(queue.Empty):
                while len(request.documents) < REQUEST_DOCUMENTS and size < REQUEST_BYTES:
                    document = self._queue.get_nowait()
                    if document is None:
                        yield request
                        return
                    request.documents.append(document)
                    size += len(document.content)
            yield request

    def ended(self, documents: list[int]) -> None:
        """These documents' outcomes are there."""
        with self._changed:
            for document in documents:
                size, offset = self._ahead.pop(document)
                self._ahead_bytes -= size
                if offset is not None and self._arena is not None:
                    self._arena.free(offset)
            # Not for each: the thread is woken for several documents at once, and they travel together.
            if self._may_draw(2):
                self._changed.notify()

    def stop(self) -> None:
        """Draw no more, and give the shared memory back."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
            if self._arena is not None:
                self._arena.close()
        self._queue.put(None)

    def _may_draw(self, share: int = 1) -> bool:
        """Whether there is room for more documents; with 2, whether half of the room is free."""
        ahead = len(self._ahead)
        most = AHEAD_BYTES // share
        return ahead < max(1, self._window // share) and (ahead < FEWEST // share or self._ahead_bytes < most)

    def _run(self) -> None:
        try:
            while self._wait(self._may_draw):
                content = next(self._contents)
                self._queue.put(self._take_up(content))
        except StopIteration:
            pass
        except BaseException as error:
            self.error = error
        self._queue.put(None)

    def _wait(self, until: Callable[[], bool]) -> bool:
        """Wait until something is so; False: there is nothing more to do."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or until())
            return not self._stopped

    def _take_up(self, content: Content) -> Any:
        """Count a document, and return it as a message."""
        arena, size = self._arena, len(content)
        offset: int | None = None
        with self._changed:
            if arena is not None and size <= arena.size // 2:
                while not self._stopped and (offset := arena.put(content)) is None:
                    self._changed.wait()
            self._ahead[self._drawn] = size, offset
            self._ahead_bytes += size
            self._drawn += 1
        if arena is None or offset is None:
            return messages.Document(content=bytes(content))
        return messages.Document(shared={"offset": offset, "length": size})
