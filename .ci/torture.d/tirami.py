"""tirami-agent: a founder that sells, and for each spender a member with a wallet of its own."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
import time
from decimal import Decimal
from pathlib import Path

import clock
from subject import Answer, Kind, Limits, Spender, Subject
from tools import TARGET, Json, Lost, Missing, NoConnection, Process, call, cut, run, until

PASSPHRASE = "a passphrase for a wallet that lives for minutes"
WORDS = "a b c d"
NO_BREAKERS = ["--errors-in-row", "none", "--spends-per-minute", "none", "--same-request", "none"]
# The code of an answer that says: nothing was done, or ask again for what was.
AGAIN = {"busy", "in_progress", "no_provider", "provider_failed", "unavailable"}


def micro(text: str) -> int:
    return int(Decimal(text) * 1_000_000)


def trm(millionths: int) -> str:
    return f"{Decimal(millionths) / 1_000_000:f}"


def question(key: str) -> dict[str, object]:
    return {
        "model": "echo",
        "messages": [{"role": "user", "content": WORDS}],
        "max_tokens": 4,
        "x_tirami": {"idempotency_key": key},
    }


def binary() -> Path:
    """The newest build, unless the environment names one."""
    named = os.environ.get("TIRAMI_BIN")
    built = [TARGET / kind / "tirami-agent" for kind in ("release", "debug")]
    found = [Path(named)] if named else [path for path in built if path.is_file()]
    if not found:
        raise Missing("tirami-agent is not built; 'make demo' builds it")
    return max(found, key=lambda path: path.stat().st_mtime)


class Node:
    """A node's data directory, and the process that serves it."""

    def __init__(self, name: Path, flags: list[str], env: dict[str, str] | None = None) -> None:
        self.dir, self.flags, self.env = name, flags, env or {}
        self.log = name.with_suffix(".log")
        self.process: Process | None = None
        self.url = ""

    def ask(self, *words: str) -> Json:
        """What a command answers."""
        env = {**os.environ, **self.env}
        said = run([binary(), *words, "--data-dir", str(self.dir), "--json"], env=env, timeout=60)
        found: Json = json.loads(said)
        return found

    def up(self) -> None:
        self.log.write_text("")
        words = [str(binary()), "up", "--data-dir", str(self.dir), "--listen", self.listen(), "--json"]
        process = Process([*words, *self.flags], self.log, self.env)
        self.process = process
        said = re.compile(r'"http":"([^"]+)"')
        ready = until("a node", lambda: said.search(process.text()), 60, process)
        self.url = ready[1]

    def listen(self) -> str:
        """The port of the last start, so that callers find the node again."""
        return self.url.removeprefix("http://") or "127.0.0.1:0"

    def down(self) -> None:
        if self.process:
            self.process.end()


class TiramiSpender(Spender):
    """A member of the network with an agent, its token and its limits."""

    def __init__(self, node: Node, seller: Node, faked: clock.FakeClock | None) -> None:
        self.node, self.seller, self.clock = node, seller, faked
        self.since = ""
        joined = node.ask("join", seller.ask("ticket")["ticket"], "--no-local")
        self.loan = micro(joined["trm_welcome_loan"])
        node.up()
        self.passphrase = node.dir.with_suffix(".passphrase")
        self.passphrase.touch(mode=0o600)
        self.passphrase.write_text(PASSPHRASE)
        node.ask("owner", "init", *self.owner())
        # What stops an agent gone wrong would stop a thousand equal requests a second before any
        # limit is reached; what is tested here are the limits.
        node.ask("budget", "loosen", *NO_BREAKERS, *self.owner())
        # A second token of the agent, which the owner can revoke.
        self.token = node.ask("token", "create", "main", *self.owner())["token"]
        self.who = node.ask("status")["node"]

    def owner(self) -> list[str]:
        return ["--passphrase-file", str(self.passphrase)]

    def set_limits(self, limits: Limits) -> None:
        """The one place that sets limits, so that new ones are easy to add."""
        words = []
        if limits.lifetime is not None:
            words += ["--lifetime", trm(limits.lifetime)]
        if limits.window is not None:
            words += ["--hour", trm(limits.window)]
        self.node.ask("budget", "set", *words)

    def spend(self, key: str) -> Answer:
        try:
            status, said = call("POST", f"{self.node.url}/v1/chat/completions", question(key), self.token)
        except (NoConnection, Lost) as error:
            return Answer(Kind.AGAIN, str(error))
        if status == 200:
            return Answer(Kind.ACCEPTED, said["x_tirami"]["receipt"])
        code, message = said["error"]["code"], said["error"]["message"]
        return Answer(Kind.AGAIN if code in AGAIN else Kind.REFUSED, f"{code}: {message}")

    def cut(self, key: str, after: float) -> None:
        cut(f"{self.node.url}/v1/chat/completions", question(key), self.token, after)

    def paid(self) -> int:
        """From the founder's books: what is left of the member's loan."""
        members = self.seller.ask("balance")["members"]
        balance = next(each["trm_balance"] for each in members if each["node"] == self.who)
        return self.loan - micro(balance)

    def counted(self) -> int:
        return micro(self.node.ask("budget", "show")["used"]["trm_lifetime"])

    def settle(self) -> None:
        def quiet() -> bool:
            status = self.node.ask("status")
            return bool(status["outbox"] == 0 and status["open_holds"] == 0)

        until("nothing is under way", quiet, 150)

    def kill(self) -> None:
        assert self.node.process
        self.node.process.kill()
        self.node.up()

    def revoke(self) -> None:
        self.node.ask("token", "revoke", self.token, *self.owner())

    def lower(self, limits: Limits) -> None:
        self.set_limits(limits)

    def freeze(self) -> None:
        self.since = self.node.ask("freeze", "--reason", "torture")["since"]

    def settled_after_freeze(self) -> int:
        """By the wallet's own time of every transfer that took from the agent."""
        if not self.since:
            return 0
        paid, before = 0, list[str]()
        while True:
            page = self.node.ask("history", "--limit", "100", *before)
            for entry in page["entries"]:
                if entry["at"] <= self.since:
                    return paid
                if entry["kind"] == "post" and entry["reason"] == "budget":
                    paid += micro(entry["trm_amount"])
            if page["next_before"] is None:
                return paid
            before = ["--before", str(page["next_before"])]

    def boundary(self) -> float:
        assert self.clock
        return (self.clock.now() // 3_600 + 1) * 3_600

    def wait_until(self, moment: float) -> None:
        assert self.clock
        self.clock.wait_until(moment)

    def shift_clock(self, seconds: int) -> None:
        assert self.clock
        self.clock.shift(seconds)

    def close(self) -> None:
        self.node.down()
        if self.clock:
            self.seller.down()


class Tirami(Subject):
    """The binary of this repository."""

    def __init__(self) -> None:
        super().__init__("tirami-agent", "TRM", 0, sliding=True, short_window=3_600)
        self.dir = Path(tempfile.mkdtemp(prefix="tirami-torture-"))
        self.count = 0

    def start(self) -> None:
        self.seller = self.seller_of(self.dir / "seller", {})
        probe = self.spender(Limits())
        assert probe.spend("probe").kind is Kind.ACCEPTED
        probe.settle()
        self.price = probe.paid()
        probe.close()

    def seller_of(self, folder: Path, env: dict[str, str]) -> Node:
        node = Node(folder, ["--model", "echo"], env)
        node.up()
        return node

    def stop(self) -> None:
        self.seller.down()
        shutil.rmtree(self.dir, ignore_errors=True)

    def versions(self) -> list[str]:
        return [run([binary(), "--version"]).strip(), clock.version()]

    def configuration(self) -> str:
        return (
            "Two nodes on loopback: a founder sells the model `echo`, a member buys; each scenario has"
            " a new member, with a loan of 1,000 TRM. Limits are set with `budget set --lifetime` and"
            " `--hour`, and the owner lifts the breakers, which would stop a thousand equal requests before"
            " any limit does; the rest is left at its defaults. Spends are `POST /v1/chat/completions` with"
            f" an idempotency key, {trm(self.price)} TRM each. *Paid* is what the founder's ledger took"
            " from the member, *counted* is `budget show`. A busy node (429) and a lost connection are"
            " asked again under the same key. Limits: lifetime, and any 60 minutes. The clock of both"
            " nodes is set with libfaketime in 2 and 3. In 8, *over* includes everything that the"
            " wallet's history shows as paid after the freeze, also where the spend began before."
        )

    def spender(self, limits: Limits, *, fake_clock: bool = False) -> TiramiSpender:
        self.count += 1
        name = self.dir / f"{self.count}"
        faked, env, seller = None, {}, self.seller if hasattr(self, "seller") else None
        if fake_clock:
            faked = clock.FakeClock(self.dir)
            env = faked.env
            seller = self.seller_of(name.with_name(f"{self.count}s"), env)
        assert seller
        spender = TiramiSpender(Node(name, ["--no-local"], env), seller, faked)
        if limits != Limits():
            spender.set_limits(limits)
        # The seller's offer is there when the first burst comes.
        until("an offer", lambda: spender.node.ask("models")["models"], 30)
        time.sleep(0.1)
        return spender
