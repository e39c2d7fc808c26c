"""The client's side of one ExecuteStream.

::

    feeder thread    documents ──► window ──► (shared memory) ──► ready
    gRPC's thread    whatever is ready ──► request
    the caller       response ──► results; room in the window

Whatever has been drawn is sent at once, and together if it is much: so tiny documents do not cost a message each, and
none waits for one that its iterable has not made yet.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from typing import Any

import grpc

from parallel_exec.service._protocol import messages
from parallel_exec.service._protocol.failures import from_call, from_message
from parallel_exec.service._protocol.received import SMALL, serialize_documents
from parallel_exec.service._protocol.shm import Arena, Arenas
from parallel_exec.service._protocol.values import Result

# What goes into one request, unless a single document is larger.
REQUEST_DOCUMENTS = 128
REQUEST_BYTES = 512 << 10
# Bytes of a stream's shared memory; a document larger than half of it is sent as bytes.
ARENA_BYTES = 32 << 20
# Bytes of documents that are drawn ahead, unless FEWEST documents are more.
AHEAD_BYTES = 12 << 20
FEWEST = 4

Content = bytes | bytearray | memoryview


def run_stream(
    start: Callable[[Iterator[Any]], Any],
    opened: dict[str, Any],
    contents: Iterator[Content],
    *,
    window: int,
    arenas: Arenas | None,
    raises: bool,
    value: Callable[[bytes], Any],
) -> Iterator[Result]:
    """Begin a stream and yield its results as they come.

    Args:
        start: begins the call, given its requests.
        opened: the StreamOpen message.
        contents: the documents' bytes.
        window: most documents drawn and not yet yielded.
        arenas: shared memory to send them through; None to send their bytes.
        raises: whether a document's error is raised, or yielded as a value.
        value: makes a value of a result's bytes.
    """
    with arenas.lend() if arenas is not None else nullcontext() as arena:
        feeder = _Feeder(contents, window, arena)
        call = start(feeder.requests(opened))
        try:
            for response in call:
                feeder.ended(response.documents)
                failed = {failure.document: from_message(failure) for failure in response.failures}
                for document, version, content in zip(
                    response.documents, response.versions, response.results, strict=True
                ):
                    if document not in failed:
                        yield Result(document, version, value(content))
                    elif raises:
                        raise failed[document]
                    else:
                        yield Result(document, version, failed[document])
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
        self._ready: deque[bytes | tuple[int, int]] = deque()  # to be sent: bytes, or offset and length
        self._stopped = self._exhausted = False
        self._lock = threading.Lock()
        self._room = threading.Condition(self._lock)
        self._news = threading.Condition(self._lock)  # something is ready, or nothing more will be
        self._thread = threading.Thread(target=self._run, name="pexec documents", daemon=True)

    def requests(self, opened: dict[str, Any]) -> Iterator[Any]:
        """Yield the stream's requests, some as bytes; called by gRPC's thread."""
        memory = self._arena.handle if self._arena is not None else ""
        yield messages.StreamRequest(open=opened | {"memory": memory})
        self._thread.start()
        while documents := self._take():
            if isinstance(documents[0], tuple):
                yield messages.StreamRequest(places=[number for place in documents for number in place])
            elif len(documents[0]) >= SMALL:
                yield serialize_documents(documents)
            else:
                yield messages.StreamRequest(documents=documents)

    def _take(self) -> list[Any]:
        """Wait for documents and return as many as go into one request, of one kind; none at the end."""
        ready = self._ready
        taken: list[Any] = []
        with self._lock:
            while not (ready or self._exhausted or self._stopped):
                self._news.wait()
            if self._stopped:
                return []
            size = 0
            while ready and len(taken) < REQUEST_DOCUMENTS and size < REQUEST_BYTES:
                if taken and type(ready[0]) is not type(taken[0]):
                    break
                document = ready.popleft()
                taken.append(document)
                size += len(document)
        return taken

    def ended(self, documents: Sequence[int]) -> None:
        """These documents' outcomes are there."""
        with self._lock:
            self._count_out(documents)
            # Not for each: the thread is woken for several documents at once, and they travel together.
            if self._may_draw(2):
                self._room.notify()

    def _count_out(self, documents: Sequence[int]) -> None:
        # A loop of the thread that Ctrl-C hits: not in a with statement itself (pool/README.md: unprotected loops).
        for document in documents:
            size, offset = self._ahead.pop(document)
            self._ahead_bytes -= size
            if offset is not None and self._arena is not None:
                self._arena.free(offset)

    def stop(self) -> None:
        """Draw no more, and use the shared memory no more."""
        with self._lock:
            self._stopped = True
            self._room.notify()
            self._news.notify()

    def _may_draw(self, share: int = 1) -> bool:
        """Whether there is room for more documents; with 2, whether half of the room is free."""
        ahead = len(self._ahead)
        most = AHEAD_BYTES // share
        return ahead < max(1, self._window // share) and (ahead < FEWEST // share or self._ahead_bytes < most)

    def _run(self) -> None:
        try:
            while self._wait():
                self._take_up(next(self._contents))
        except StopIteration:
            pass
        except BaseException as error:
            self.error = error
        with self._lock:
            self._exhausted = True
            self._news.notify()

    def _wait(self) -> bool:
        """Wait until there is room for a document; False: there is nothing more to do."""
        with self._lock:
            while not (self._stopped or self._may_draw()):
                self._room.wait()
            return not self._stopped

    def _take_up(self, content: Content) -> None:
        """Count a document, and have it sent."""
        arena, size = self._arena, len(content)
        offset: int | None = None
        with self._lock:
            if arena is not None and size <= arena.size // 2:
                while not self._stopped and (offset := arena.put(content)) is None:
                    self._room.wait()
            self._ahead[self._drawn] = size, offset
            self._ahead_bytes += size
            self._drawn += 1
            self._ready.append(bytes(content) if offset is None else (offset, size))
            self._news.notify()
