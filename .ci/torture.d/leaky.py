"""A wallet that breaks every promise, to show that the suite sees it: `.ci/torture --self-test`."""

from __future__ import annotations

import threading
import time

from subject import Answer, Kind, Limits, Spender, Subject

PRICE = 1_000


class LeakySpender(Spender):
    """Looks first and counts later; forgets when it dies; knows no keys; revokes in its own time."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.got = self.books = 0
        self.lock = threading.Lock()
        self.opened, self.shifted, self.stopped = self.now(), 0.0, False

    def now(self) -> float:
        return time.time() + getattr(self, "shifted", 0.0)

    def spend(self, key: str) -> Answer:
        # Any jump of the clock, also back, begins a new window.
        if abs(self.now() - self.opened) > self.limits.window_seconds / 2:
            self.books, self.opened = 0, self.now()
        limit = self.limits.lifetime if self.limits.window is None else self.limits.window
        if self.stopped or (limit is not None and self.books + PRICE > limit):
            return Answer(Kind.REFUSED)
        time.sleep(0.01)
        with self.lock:
            self.books += PRICE
            self.got += PRICE
        return Answer(Kind.ACCEPTED)

    def cut(self, key: str, after: float) -> None:
        self.spend(key)

    def paid(self) -> int:
        return self.got

    def counted(self) -> int:
        return self.books

    def kill(self) -> None:
        self.books = 0

    def stop_later(self) -> None:
        threading.Timer(0.3, lambda: setattr(self, "stopped", True)).start()

    def revoke(self) -> None:
        self.stop_later()

    def lower(self, limits: Limits) -> None:
        self.stop_later()

    def freeze(self) -> None:
        self.stop_later()

    def boundary(self) -> float:
        return self.opened + self.limits.window_seconds / 2

    def wait_until(self, moment: float) -> None:
        self.shifted += max(0.0, moment - self.now())

    def shift_clock(self, seconds: int) -> None:
        self.shifted = float(seconds)

    def close(self) -> None:
        pass


class Leaky(Subject):
    """In this process, without any care."""

    def __init__(self) -> None:
        super().__init__("leaky", "$", PRICE, sliding=True, short_window=20)

    def start(self) -> None:
        pass

    def stop(self) -> None:
        pass

    def versions(self) -> list[str]:
        return []

    def configuration(self) -> str:
        return "A wallet in this process that breaks every promise."

    def spender(self, limits: Limits, *, fake_clock: bool = False) -> LeakySpender:
        return LeakySpender(limits)
