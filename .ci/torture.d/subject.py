"""What a subject of the torture suite is: something with a spending limit, and how to ask it."""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from dataclasses import dataclass, field


class Kind(enum.Enum):
    """How a spend ended for the one who asked."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    # Nothing happened, or the subject says that the same key may be asked for again.
    AGAIN = "again"
    # No answer, and no way to ask for it: it may have been paid.
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Answer:
    kind: Kind
    text: str = ""


@dataclass(frozen=True)
class Limits:
    """In millionths of the subject's unit; None is no limit of that sort."""

    lifetime: int | None = None
    window: int | None = None
    window_seconds: int = 3_600


class Spender(ABC):
    """One wallet, key or client with a limit of its own."""

    @abstractmethod
    def spend(self, key: str) -> Answer:
        """Asks for one thing that costs the subject's price."""

    @abstractmethod
    def paid(self) -> int:
        """What the side that is paid has got from this spender, in all."""

    @abstractmethod
    def counted(self) -> int:
        """What the subject's own books say was spent."""

    @abstractmethod
    def close(self) -> None:
        """Ends what belongs to this spender."""

    def cut(self, key: str, after: float) -> None:
        """Asks, and cuts the connection before the answer is read."""
        raise NotImplementedError

    def settle(self) -> None:
        """Waits until nothing is under way."""

    def kill(self) -> None:
        """SIGKILL, and a new start on the same data."""
        raise NotImplementedError

    def revoke(self) -> None:
        """Takes away the right to spend."""
        raise NotImplementedError

    def lower(self, limits: Limits) -> None:
        """Tightens the limits."""
        raise NotImplementedError

    def freeze(self) -> None:
        """Stops all spending."""
        raise NotImplementedError

    def settled_after_freeze(self) -> int:
        """What was paid after the freeze by the subject's own books, where it promises nothing."""
        return 0

    def boundary(self) -> float:
        """When the window that is open now ends, by the clock that the subject sees."""
        raise NotImplementedError

    def wait_until(self, moment: float) -> None:
        """Lets time pass until the subject's clock shows the moment."""
        raise NotImplementedError

    def shift_clock(self, seconds: int) -> None:
        """Sets the subject's clock apart from the machine's."""
        raise NotImplementedError


@dataclass
class Subject(ABC):
    """Something that claims to hold a spending limit."""

    name: str
    unit: str
    # What one spend costs, in millionths.
    price: int
    # Whether a window slides, or begins anew at its boundary.
    sliding: bool
    # The window that the boundary scenario can wait for.
    short_window: int
    # Scenarios that it makes no claim about, and why.
    not_offered: dict[str, str] = field(default_factory=dict)

    @abstractmethod
    def start(self) -> None:
        """Installs what is missing and starts it."""

    @abstractmethod
    def stop(self) -> None:
        """Ends everything that was started."""

    @abstractmethod
    def versions(self) -> list[str]:
        """Everything that ran, with its version."""

    @abstractmethod
    def configuration(self) -> str:
        """How it was configured, in Markdown."""

    @abstractmethod
    def spender(self, limits: Limits, *, fake_clock: bool = False) -> Spender:
        """A new spender of which nothing is spent."""
