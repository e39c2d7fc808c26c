"""What is compared: one way to verify messages, and what of it could not be had."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from .messages import Signed


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
    how: ClassVar[str] = "message"
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
