"""`Pool.par_iter`: chains of stages over documents, as Rayon's parallel iterators are.

::

    par_iter(docs).map(f).filter(g)    .map(h)        .reduce(r)
                   └── plugin A ──┘    └ plugin B ┘
    document ──► trip: f, g ──► [value, ...] ──► trip: h ──► [value, ...] ──┐ some 30 documents' at a time
                                                                            ▼
                               one value ◄── trip: r ◄── ... ◄── trip: r ◄── groups

Each trip is a `Pool.map` whose documents are the results of the one before, so all are lazy and have windows of their
own. What travels between trips are arrays of values as JSON text, one for each document; nothing is decoded on the way.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, cast

from parallel_exec._codec.documents import decode, encode
from parallel_exec.errors import PexecError
from parallel_exec.pool._mapping import Errors
from parallel_exec.pool._trips import StageFunction, Step, Trip, check_stage, group, plan
from parallel_exec.sandbox._chain import ChainSource, Operation

if TYPE_CHECKING:
    from parallel_exec.pool._pool import Pool

# Documents whose values are one job of a fold or reduce: enough that its costs are small beside theirs, and few enough
# that a thousand documents keep many workers busy. Fewer if their values are so many bytes of JSON; but at least two.
GROUP_DOCUMENTS = 32
GROUP_BYTES = 1 << 20

# The first documents behind a text (of each of its parts, if it is a group), and the text: a document's values. With
# errors="return" it may be the document's error instead.
_Texts = Iterator[tuple[Sequence[int], Any]]


class ParIter:
    """Documents and the stages that they go through; `Pool.par_iter` makes it, and every stage a new one.

    Nothing happens before a method that gives results is called, or iteration begins. `map`, `filter`, `flat_map` and
    `fold` take functions of plugins: untrusted code is what a pool runs, so a Python callable is a TypeError there.
    They keep the documents' order. Values between stages are JavaScript values as long as the stages are of one plugin,
    and JSON values between two plugins; each trip of a document begins in a fresh sandbox.

    The function of a deployment (``pool.deployment(name).function(name)``) is that of the version that is current when
    a document, or what a trip before made of it, is handed to the workers: as long as a document is with stages of one
    deployment, it is with one version.

    Errors say at which function (``error.function``) and at which document (``error.document``) they happened. After a
    `fold` or in a `reduce`, where many documents made one value, it is the first of these.

    >>> import parallel_exec as px
    >>> plugin = px.Plugin("const words = s => s.split(' '), long = w => w.length > 3, size = w => w.length")
    >>> words, long, size = (plugin.function(name) for name in ("words", "long", "size"))
    >>> with px.Pool(2) as pool:
    ...     texts = pool.par_iter(["the quick brown fox", "jumps over"])
    ...     texts.flat_map(words).filter(long).collect(), texts.flat_map(words).map(size).sum()
    (['quick', 'brown', 'jumps', 'over'], 25)
    """

    def __init__(
        self,
        pool: Pool,
        documents: Iterable[Any],
        *,
        buffersize: int | None,
        errors: Errors,
        steps: tuple[Step, ...] = (),
    ) -> None:
        self._pool = pool
        self._documents = documents
        self._buffersize = buffersize
        self._errors: Errors = errors
        self._steps = steps

    # Stages

    def map(self, function: StageFunction) -> ParIter:
        """Put what the function returns in place of each value. Its `undefined` is None."""
        return self._with(Operation.MAP, function)

    def filter(self, function: StageFunction) -> ParIter:
        """Keep the values for which the function returns what JavaScript takes for true: anything but false, 0, NaN,
        "", null and undefined.
        """
        return self._with(Operation.FILTER, function)

    def flat_map(self, function: StageFunction) -> ParIter:
        """Put the elements of the array that the function returns in place of each value.

        `JSError`, from what gives results: a TypeError if it returns anything but an array.
        """
        return self._with(Operation.FLAT_MAP, function)

    def fold(self, initial: Any, function: StageFunction) -> ParIter:
        """Go over the values of some documents that follow each other, about 30 of them, with an accumulator, and give
        what it is in the end; so there are as many values as groups, none for no documents. How documents are grouped
        is not to be relied upon: `reduce` or `sum` usually follows.

        Args:
            initial: the accumulator that every group begins with: JSON text as bytes, or a Python value.
            function: called in JavaScript as ``function(accumulator, value)``, returns the next accumulator. A group is
                one job in one sandbox: what `function` leaves in the plugin's globals lasts as long, and limits are per
                group.

        Raises:
            InvalidDocument: `initial` has no JSON encoding.
        """
        self._need_all("fold")
        return self._with(Operation.FOLD, function, bytes(encode(initial)))

    # What gives results

    def __iter__(self) -> Generator[Any, None, None]:
        """Yield the values, drawing documents as they are needed, a bounded number ahead. With ``errors="return"`` a
        document that failed has a `PexecError` in place of its values.
        """
        with ExitStack() as stack:
            for _, text in self._texts(plan(self._steps), stack):
                if isinstance(text, PexecError):
                    yield text
                else:
                    yield from decode(text)

    def collect(self) -> list[Any]:
        """Return all values as a list."""
        return list(self)

    def for_each(self, callback: Callable[[Any], object]) -> None:
        """Call a Python function of this process, in the calling thread, with every value in order.

        Raises:
            TypeError: the callback is a plugin's function, which would not run in a worker; that is what `map` is for.
        """
        if isinstance(callback, StageFunction) or not callable(callback):
            raise TypeError(
                f"for_each() calls a Python function here, not {callback!r}; map() runs a plugin's in workers"
            )
        for value in self:
            callback(value)

    def reduce(self, function: StageFunction) -> Any:
        """Combine all values into one, as a tree, in the workers; None if there are none.

        Args:
            function: called in JavaScript as ``function(a, b)`` with two values, or results of its own, that follow
                each other; it must be associative. Limits are per job, which combines a document's values or those of
                about 30.
        """
        self._need_all("reduce")
        function = check_stage("reduce", function, first=False)
        with ExitStack() as stack:
            texts = self._texts(plan((*self._steps, Step(Operation.REDUCE, function))), stack)
            trip = group(Operation.REDUCE, function)
            while True:
                texts = self._through(trip, _groups(texts, trip), stack)
                first = list(itertools.islice(texts, 2))
                if len(first) < 2:
                    break
                texts = itertools.chain(first, texts)
        values = [value for _, text in first for value in decode(text)]
        return values[0] if values else None

    def sum(self) -> Any:
        """Add the values up; 0 if there are none. Those of a document are added in its worker as JavaScript's numbers,
        what that gives is added here.

        Raises:
            JSError: a TypeError of a value that is no finite number.
        """
        return sum(self._ended(Operation.SUM))

    def count(self) -> int:
        """Count the values in the workers; only numbers travel back."""
        return sum(self._ended(Operation.COUNT))

    def min(self) -> Any:
        """Return the least value.

        Raises:
            ValueError: there are no values.
            JSError: a TypeError of a value that is no finite number.
        """
        least = min(self._ended(Operation.MIN), default=None)
        if least is None:
            raise ValueError("min() of no values")
        return least

    def max(self) -> Any:
        """Return the greatest value; raises as `min`."""
        greatest = max(self._ended(Operation.MAX), default=None)
        if greatest is None:
            raise ValueError("max() of no values")
        return greatest

    # How

    def _with(self, operation: Operation, function: StageFunction, initial: bytes = b"") -> ParIter:
        first = not self._steps and operation is not Operation.FOLD
        step = Step(operation, check_stage(operation.name.lower(), function, first=first), initial)
        return ParIter(
            self._pool,
            self._documents,
            buffersize=self._buffersize,
            errors=self._errors,
            steps=(*self._steps, step),
        )

    def _need_all(self, operation: str) -> None:
        if self._errors != "raise":
            raise ValueError(
                f"{operation}() takes the values of all documents, so it has no place for errors: "
                "use errors='raise', or iterate over the chain"
            )

    def _ended(self, operation: Operation) -> Iterator[Any]:
        """Yield what the operation, a chain's last, gives for each document that has values."""
        self._need_all(operation.name.lower())
        with ExitStack() as stack:
            texts = self._texts(plan((*self._steps, Step(operation))), stack)
            for _, text in texts:
                yield from decode(text)

    def _texts(self, trips: Sequence[Trip], stack: ExitStack) -> _Texts:
        """Run the trips, and return the values that come out of the last one, document by document."""
        texts: _Texts = (
            (range(index, index + 1), text) for index, text in enumerate(self._run(trips[0], self._documents, stack))
        )
        for trip in trips[1:]:
            texts = self._through(trip, texts if trip.source is ChainSource.VALUES else _groups(texts, trip), stack)
        return texts

    def _through(self, trip: Trip, texts: _Texts, stack: ExitStack) -> _Texts:
        """Run a trip that is not the first, and tell of its errors at which document they happened."""
        on_their_way: deque[Sequence[int]] = deque()
        before: Exception | None = None

        def documents() -> Iterator[Any]:
            nonlocal before
            try:
                for firsts, text in texts:
                    on_their_way.append(firsts)
                    yield text
            except Exception as error:
                before = error
                raise

        try:
            for text in self._run(trip, documents(), stack):
                yield on_their_way.popleft()[:1], text
        except PexecError as error:
            if error is not before:
                _place(error, on_their_way[0])
            raise

    def _run(self, trip: Trip, documents: Iterable[Any], stack: ExitStack) -> Iterator[Any]:
        results = self._pool.map(trip.function, documents, buffersize=self._buffersize, errors=self._errors)
        stack.callback(cast("Generator[Any, None, None]", results).close)
        return results


def _groups(texts: _Texts, trip: Trip) -> _Texts:
    """Put the values of some documents together to one text."""
    firsts: list[int] = []
    parts: list[bytes] = []
    size = 0
    seed = [trip.initial] if trip.source is ChainSource.SEEDED_GROUP else []
    for (first, *_), text in texts:
        firsts.append(first)
        parts.append(text)
        size += len(text)
        if len(parts) == GROUP_DOCUMENTS or (size > GROUP_BYTES and len(parts) > 1):
            yield firsts, b"[%b]" % b",".join(seed + parts)
            firsts, parts, size = [], [], 0
    if parts:
        yield firsts, b"[%b]" % b",".join(seed + parts)


def _place(error: PexecError, firsts: Sequence[int]) -> None:
    """Say of which document an error of a later trip is."""
    item = error.group_item
    if item is None and len(firsts) > 1:
        error.add_note(f"in one job with the values of the documents from {firsts[0]} to {firsts[-1]} on")
    error.document = firsts[min(item or 0, len(firsts) - 1)]
