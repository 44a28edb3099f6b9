"""The real binary while its clock jumps by a year, back and forth, under libfaketime.

A clock set back makes no hold live longer or shorter and revives nothing; one set forward ends holds
and mandates early, once, and they stay so when it is set back, also after a restart. No id is used
twice.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from clock import FakeClock
from pair import Pair, chat
from tirami import Node
from tools import Json, until

YEAR = 365 * 86_400
# How long a hold lives, in seconds.
TIMEOUT = 6


def entries(node: Node) -> list[Json]:
    """Everything in the books, the newest first."""
    found, before = list[Json](), list[str]()
    while True:
        page = node.ask("history", "--limit", "100", *before)
        found += page["entries"]
        if page["next_before"] is None:
            return found
        before = ["--before", str(page["next_before"])]


def sound(pair: Pair) -> int:
    """No number, id or receipt twice, no time that runs backwards; how many entries."""
    count = 0
    for node in (pair.seller, pair.buyer):
        found = entries(node)
        count += len(found)
        for field in ("seq", "transfer"):
            ids = [entry[field] for entry in found if entry.get(field) is not None]
            if len(ids) != len(set(ids)):
                raise SystemExit(f"FAIL {field} used twice")
        times = [entry["at"] for entry in found]
        if times != sorted(times, reverse=True):
            raise SystemExit("FAIL the books' time runs backwards")
        if not node.ask("wallet", "audit")["holds"]:
            raise SystemExit("FAIL the books do not hold")
    return count


def buys(pair: Pair, key: str) -> None:
    code, _, said = chat(pair.buyer, key, [])
    if code != 0:
        raise SystemExit(f"FAIL {key}: a purchase fails ({code}): {said}")


@contextlib.contextmanager
def open_hold(pair: Pair, name: str) -> Iterator[float]:
    """A purchase whose seller fell silent in the middle: its hold is open. When it began."""
    assert pair.seller.process
    seller = pair.seller.process.child.pid
    host, port = pair.buyer.url.removeprefix("http://").split(":")
    token = (pair.buyer.dir / "agent.token").read_text().strip()
    for attempt in range(30):
        body = json.dumps(
            {
                "model": "echo",
                "stream": True,
                "messages": [{"role": "user", "content": "word " * 3_000}],
                "x_tirami": {"idempotency_key": f"{name}/{attempt}"},
            }
        )
        with socket.create_connection((host, int(port)), 20) as stream:
            head = (
                f"POST /v1/chat/completions HTTP/1.1\r\nhost: {host}:{port}\r\n"
                f"authorization: Bearer {token}\r\ncontent-type: application/json\r\n"
                f"content-length: {len(body)}\r\n\r\n"
            )
            stream.sendall((head + body).encode())
            seen = b""
            while b"word" not in seen:
                piece = stream.recv(1_024)
                if not piece:
                    raise SystemExit(f"FAIL no answer begins: {seen!r}")
                seen += piece
            os.kill(seller, signal.SIGSTOP)
            try:
                began = time.monotonic()
                time.sleep(0.3)
                if pair.buyer.ask("status")["open_holds"] == 1:
                    yield began
                    return
            finally:
                os.kill(seller, signal.SIGCONT)
    raise SystemExit("FAIL no purchase could be stopped in the middle")


def lived(pair: Pair, began: float) -> float:
    """How long the hold lived since then."""
    gone = lambda: pair.buyer.ask("status")["open_holds"] == 0  # noqa: E731
    until("the hold expires", gone, 30)
    return time.monotonic() - began


def writer(pair: Pair) -> int:
    """The rule that refuses the agent whose mandate ends in thirty days; 0 for none."""
    said = pair.buyer.ask("budget", "show", "--agent", "writer")
    return 11 if said["left_by"] == "expires" or said["left_by"] == "expiry" else 0


def main() -> None:
    folder = Path(tempfile.mkdtemp(prefix="tirami-years-"))
    clock = FakeClock(folder)
    flags = ["--hold-timeout", str(TIMEOUT)]
    with Pair("years", clock.env, flags) as pair:
        pair.buyer.ask("mandate", "grant", "writer", "--expires", "30d")
        pair.buyer.up()
        buys(pair, "before")
        with open_hold(pair, "back") as began:
            clock.shift(-YEAR)
            took = lived(pair, began)
        # The node looks every few seconds; a year would be seen.
        if not TIMEOUT - 1 <= took <= TIMEOUT + 6:
            raise SystemExit(f"FAIL a clock set back: the hold lived for {took:.1f} s")
        print(f"ok   a year back: a hold of {TIMEOUT} s lived for {took:.1f} s")
        buys(pair, "a year back")
        if writer(pair):
            raise SystemExit("FAIL a year back: a mandate has ended")
        clock.shift(0)
        buys(pair, "back again")
        with open_hold(pair, "forth") as began:
            clock.shift(YEAR)
            took = lived(pair, began)
        print(f"ok   a year forth: the hold ended at once, after {took:.1f} s, as documented")
        buys(pair, "a year forth")
        if not writer(pair):
            raise SystemExit("FAIL a year forth: a mandate of thirty days still holds")
        clock.shift(0)
        expired = [entry["seq"] for entry in entries(pair.buyer) if entry["kind"] == "expire"]
        buys(pair, "and back")
        for restarted in (False, True):
            if restarted:
                pair.buyer.down()
                pair.buyer.up()
                buys(pair, "restarted")
            now = [entry["seq"] for entry in entries(pair.buyer) if entry["kind"] == "expire"]
            if not writer(pair) or now[-len(expired) :] != expired:
                raise SystemExit("FAIL what had ended is there again")
        pair.agree()
        print(f"ok   set back after it: what ended stays ended; {sound(pair)} entries, no id twice")


if __name__ == "__main__":
    sys.exit(main())
