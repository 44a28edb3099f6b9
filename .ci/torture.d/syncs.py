"""The real binary stopped, or failed, at every sync: what was acknowledged is there, once.

A member buys from a founder by `chat`, under strace, which ends the process (or fails the call) at
its N-th sync, for N from 1 until a purchase runs to its end. After each: the books hold, the same key
carries on, and both sides have booked the same.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tirami import PASSPHRASE, Node, binary, micro
from tools import Json

PER_ROUND = 60


def chat(buyer: Node, key: str, fault: list[str]) -> tuple[int, Json | None]:
    """How the purchase ended, and its answer if there was one."""
    words = [str(binary()), "chat", "a b c d", "--max-tokens", "4", "--idempotency-key", key]
    config = buyer.dir.with_suffix(".toml")
    config.write_text("no_local = true\n")
    words += ["--config", str(config), "--data-dir", str(buyer.dir), "--json"]
    ended = subprocess.run([*fault, *words], capture_output=True, text=True, timeout=PER_ROUND)
    answered = ended.returncode == 0 and ended.stdout.strip()
    return ended.returncode, json.loads(ended.stdout) if answered else None


def strace(what: str, at: int) -> list[str]:
    calls = "fsync,fdatasync"
    inject = f"inject={calls}:{what}:when={at}"
    return ["strace", "-f", "-qq", "-o", os.devnull, "-e", f"trace={calls}", "-e", inject]


def agree(seller: Node, buyer: Node) -> int:
    """What was paid in all, once both sides say the same and the books hold."""
    who = buyer.ask("status")["node"]
    for _ in range(100):
        member = next(m for m in seller.ask("balance")["members"] if m["node"] == who)
        mine = buyer.ask("balance")
        if micro(member["trm_balance"]) == micro(mine["trm_balance"]) and micro(mine["trm_held"]) == 0:
            break
        # The outbox sends what the seller has not acknowledged while a node runs.
        buyer.up()
        time.sleep(0.2)
        buyer.down()
    else:
        raise SystemExit("FAIL both sides do not come to agree")
    for node in (seller, buyer):
        if not node.ask("wallet", "audit")["holds"]:
            raise SystemExit("FAIL the books do not hold")
    return micro(mine["trm_spent"])


def rounds(seller: Node, buyer: Node, what: str, most: int) -> int:
    """Stops or fails every sync of a purchase; answers how many there were."""
    for at in range(1, most + 1):
        key = f"{what}/{at}"
        before = agree(seller, buyer)
        code, answer = chat(buyer, key, strace(what, at))
        again, stored = chat(buyer, key, [])
        if again != 0 or stored is None:
            raise SystemExit(f"FAIL {what} at sync {at}: the key does not carry on ({again})")
        if answer and answer["receipt"] != stored["receipt"]:
            raise SystemExit(f"FAIL {what} at sync {at}: another answer than the one acknowledged")
        paid = agree(seller, buyer) - before
        if paid != micro(stored["trm_cost"]):
            raise SystemExit(f"FAIL {what} at sync {at}: {paid} micro-TRM paid, not once")
        if code == 0:
            return at - 1
    return most


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--most", type=int, default=40, help="syncs of one purchase that are tried")
    most = options.parse_args().most
    if not shutil.which("strace"):
        raise SystemExit("strace is missing: apt-get install strace")
    folder = Path(tempfile.mkdtemp(prefix="tirami-syncs-"))
    seller = Node(folder / "seller", ["--model", "echo"])
    buyer = Node(folder / "buyer", ["--no-local"])
    try:
        seller.up()
        buyer.ask("join", seller.ask("ticket")["ticket"], "--no-local")
        passphrase = folder / "passphrase"
        passphrase.touch(mode=0o600)
        passphrase.write_text(PASSPHRASE)
        owner = ["--passphrase-file", str(passphrase)]
        buyer.ask("owner", "init", *owner)
        lifted = ["--errors-in-row", "none", "--spends-per-minute", "none", "--same-request", "none"]
        buyer.ask("budget", "loosen", *lifted, *owner)
        for what in ("signal=SIGKILL", "error=EIO"):
            count = rounds(seller, buyer, what, most)
            print(f"ok   {what} at each of {count} syncs of a purchase: nothing lost, nothing twice")
            if count == 0:
                raise SystemExit(f"FAIL no sync was met by {what}")
    finally:
        seller.down()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
