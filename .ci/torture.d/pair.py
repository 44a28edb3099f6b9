"""A founder that sells echo and a member that buys, for the checks that hurt the real binary."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType

from tirami import NO_BREAKERS, PASSPHRASE, Node, binary, micro
from tools import Json

PER_CHAT = 60


def chat(buyer: Node, key: str, by: list[str]) -> tuple[int, Json | None, str]:
    """How the purchase ended, its answer if there was one, and what was said beside it."""
    words = [str(binary()), "chat", "a b c d", "--max-tokens", "4", "--idempotency-key", key]
    words += ["--config", str(buyer.dir.with_suffix(".toml")), "--data-dir", str(buyer.dir), "--json"]
    env = {**os.environ, **buyer.env}
    ended = subprocess.run([*by, *words], capture_output=True, text=True, timeout=PER_CHAT, env=env)
    answered = ended.returncode == 0 and ended.stdout.strip()
    return ended.returncode, json.loads(ended.stdout) if answered else None, ended.stderr


class Pair:
    """Both, with an owner who lifted the buyer's breakers; all of it is gone at the end."""

    def __init__(self, name: str, env: dict[str, str] | None = None, flags: list[str] | None = None) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix=f"tirami-{name}-"))
        self.seller = Node(self.folder / "seller", ["--model", "echo", *(flags or [])], env)
        self.buyer = Node(self.folder / "buyer", ["--no-local", *(flags or [])], env)
        self.buyer.dir.with_suffix(".toml").write_text("no_local = true\n")
        passphrase = self.folder / "passphrase"
        passphrase.touch(mode=0o600)
        passphrase.write_text(PASSPHRASE)
        self.owner = ["--passphrase-file", str(passphrase)]

    def __enter__(self) -> Pair:
        self.seller.up()
        self.buyer.ask("join", self.seller.ask("ticket")["ticket"], "--no-local")
        self.buyer.ask("owner", "init", *self.owner)
        self.buyer.ask("budget", "loosen", *NO_BREAKERS, *self.owner)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.buyer.down()
        self.seller.down()
        shutil.rmtree(self.folder, ignore_errors=True)

    def agree(self) -> int:
        """What was paid in all, once both sides say the same and the books hold."""
        who = self.buyer.ask("status")["node"]
        for _ in range(100):
            members = self.seller.ask("balance")["members"]
            member = next(m for m in members if m["node"] == who)
            mine = self.buyer.ask("balance")
            same = micro(member["trm_balance"]) == micro(mine["trm_balance"])
            if same and micro(mine["trm_held"]) == 0:
                break
            # The outbox sends what the seller has not acknowledged while a node runs.
            if self.buyer.process is None or self.buyer.process.child.poll() is not None:
                self.buyer.up()
                time.sleep(0.2)
                self.buyer.down()
            else:
                time.sleep(0.2)
        else:
            raise SystemExit("FAIL both sides do not come to agree")
        for node in (self.seller, self.buyer):
            if not node.ask("wallet", "audit")["holds"]:
                raise SystemExit("FAIL the books do not hold")
        return micro(mine["trm_spent"])

    def carries_on(self, key: str, what: str, answer: Json | None, before: int) -> Json:
        """The same key answers, what was answered stays so, and it is paid once."""
        code, stored, _ = chat(self.buyer, key, [])
        if code != 0 or stored is None:
            raise SystemExit(f"FAIL {what}: the key does not carry on ({code})")
        if answer and answer["receipt"] != stored["receipt"]:
            raise SystemExit(f"FAIL {what}: another answer than the one acknowledged")
        paid = self.agree() - before
        if paid != micro(stored["trm_cost"]):
            raise SystemExit(f"FAIL {what}: {paid} micro-TRM paid, not once")
        return stored
