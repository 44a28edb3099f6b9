"""The real binary while its clock jumps, by days and by a year, under libfaketime.

A clock set back makes no hold live longer or shorter and revives nothing; one set forward ends holds,
mandates and the time of a loan early, once, and they stay so when it is set back, also after a restart.
No id is used twice.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
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

DAY = 86_400
YEAR = 365 * DAY
# How long a hold lives, in seconds.
TIMEOUT = 6

# A long answer: as many words as its prompt, and both have to fit into echo's context.
WORDS = 1_990


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
    """No number and no receipt of a purchase twice, no time that runs backwards; how many entries."""
    count = 0
    for node in (pair.seller, pair.buyer):
        found = entries(node)
        count += len(found)
        numbers = [entry["seq"] for entry in found]
        paid = [entry["receipt"] for entry in found if entry["reason"] in ("purchase", "earnings")]
        for what, ids in (("a number", numbers), ("a receipt", paid)):
            if len(ids) != len(set(ids)):
                raise SystemExit(f"FAIL {what} was used twice")
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
    for attempt in range(60):
        body = json.dumps(
            {
                "model": "echo",
                "messages": [{"role": "user", "content": "word " * WORDS}],
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
            # Somewhere between the hold and the last word: tried until it is.
            time.sleep(0.004 * (1 + attempt % 20))
            os.kill(seller, signal.SIGSTOP)
            try:
                began = time.monotonic()
                time.sleep(1)
                if pair.buyer.ask("status")["open_holds"] == 1:
                    yield began
                    return
            finally:
                os.kill(seller, signal.SIGCONT)
            # What was begun comes to its end before another is.
            stream.recv(1)
    raise SystemExit("FAIL no purchase could be stopped in the middle")


def lived(pair: Pair, began: float) -> float:
    """How long the hold lived since then."""
    gone = lambda: pair.buyer.ask("status")["open_holds"] == 0  # noqa: E731
    until("the hold expires", gone, 30)
    return time.monotonic() - began


def ended(pair: Pair) -> bool:
    """Whether a mandate of thirty days has ended, and the loan of 72 hours is in default."""
    mandate = pair.buyer.ask("budget", "show", "--agent", "writer")["left_by"] == "expires"
    loan = pair.buyer.ask("loans")["loans"][0]["state"] == "defaulted"
    if mandate != loan:
        raise SystemExit(f"FAIL the mandate has ended: {mandate}; the loan is in default: {loan}")
    return mandate


def expired(pair: Pair) -> list[int]:
    """The numbers of the holds that expired."""
    return [entry["seq"] for entry in entries(pair.buyer) if entry["kind"] == "expire"]


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
        buys(pair, "a-year-back")
        if ended(pair):
            raise SystemExit("FAIL a year back: what was granted has ended")
        print(f"ok   a year back: a hold of {TIMEOUT} s lived for {took:.1f} s, and all goes on")
        clock.shift(0)
        buys(pair, "back-again")
        with open_hold(pair, "forth") as began:
            clock.shift(2 * DAY)
            took = lived(pair, began)
        before = expired(pair)
        buys(pair, "two-days-forth")
        clock.shift(0)
        buys(pair, "set-back")
        if ended(pair) or expired(pair)[-len(before) :] != before:
            raise SystemExit("FAIL two days forth and back: what expired is there again")
        print(f"ok   two days forth: a hold ended after {took:.1f} s, as documented, and stays ended")
        paid = pair.agree()
        clock.shift(YEAR)
        # What nobody did anything at was not seen: a purchase is asked for, and refused.
        for at in ("then", "set-back", "restarted"):
            if at == "set-back":
                clock.shift(0)
            if at == "restarted":
                pair.buyer.down()
                pair.buyer.up()
            code, _, _ = chat(pair.buyer, f"late-{at}", [])
            if code == 0 or not ended(pair):
                raise SystemExit(f"FAIL a year forth, {at}: what ends is there ({code})")
        print(f"ok   a year forth and back: what ended stays ended; {sound(pair)} entries, no id twice")
        print(f"     {paid} micro-TRM paid before it, on both sides")
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
