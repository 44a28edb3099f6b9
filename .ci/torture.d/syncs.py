"""The real binary stopped, or failed, at every sync: what was acknowledged is there, once.

A member buys from a founder by `chat`, under strace, which ends the process (or fails the call) at
its N-th sync, for N from 1 until a purchase runs to its end. After each: the books hold, the same key
carries on, and both sides have booked the same.
"""

from __future__ import annotations

import argparse
import os
import sys

from pair import Pair, chat


def strace(calls: str, what: str, at: int) -> list[str]:
    inject = f"inject={calls}:{what}:when={at}"
    return ["strace", "-f", "-qq", "-o", os.devnull, "-e", f"trace={calls}", "-e", inject]


def rounds(pair: Pair, what: str, most: int) -> int:
    """Stops or fails every sync of a purchase; answers how many there were."""
    for at in range(1, most + 1):
        key, before = f"{what}/{at}", pair.agree()
        code, answer, _ = chat(pair.buyer, key, strace("fsync,fdatasync", what, at))
        pair.carries_on(key, f"{what} at sync {at}", answer, before)
        if code == 0:
            return at - 1
    return most


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--most", type=int, default=40, help="syncs of one purchase that are tried")
    most = options.parse_args().most
    with Pair("syncs") as pair:
        for what in ("signal=SIGKILL", "error=EIO"):
            count = rounds(pair, what, most)
            print(f"ok   {what} at each of {count} syncs of a purchase: nothing lost, nothing twice")
            if count == 0:
                raise SystemExit(f"FAIL no sync was met by {what}")


if __name__ == "__main__":
    sys.exit(main())
