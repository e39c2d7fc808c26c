"""What is compared: one way to verify messages, and what of it could not be had."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from parallel_exec.verify.messages import Signed

# Messages of a group that goes to a worker at once, at most: so many that its copies and one wake-up cost nothing
# beside them; fewer where that would leave workers idle.
MOST_IN_GROUP = 64


class Missing(Exception):
    """A runtime is not there; the text says why."""


class Verifier(ABC):
    """One way to verify messages.

    Attributes:
        name: of the runtime.
        how: ``"message"``: one after another, each a call; ``"batch"``: all in one call; ``"swap"``: one after another,
            by the module of their kind.
        build: of the module, if it is one: ``"speed"`` or ``"size"``.
    """

    name: str
    how: str = "message"
    build: str = ""

    @abstractmethod
    def prepare(self) -> None:
        """Do what is done once.

        Raises:
            Missing: the runtime is not there.
        """

    @abstractmethod
    def verify(self, messages: Sequence[Signed]) -> list[bool]:
        """Verify messages; what is timed."""

    def close(self) -> None:  # noqa: B027 - most hold nothing that would have to be given back
        """Give back what `prepare` took."""


def groups(messages: Sequence[Signed], workers: int) -> list[Sequence[Signed]]:
    """Return messages in the groups that go to so many workers."""
    size = max(1, min(MOST_IN_GROUP, len(messages) // (4 * workers)))
    return [messages[start : start + size] for start in range(0, len(messages), size)]
