"""The x402 client under the spend controls of Coinbase's CDP SDK, against a local seller."""

from __future__ import annotations

import secrets
import shutil
import tempfile
import time
from pathlib import Path

import clock
from subject import Answer, Kind, Limits, Spender, Subject
from tools import HERE, Lost, NoConnection, Process, call, free_port, npm, npm_version, run, until

PRICE = 1_000
PACKAGES = ["@x402/core", "@x402/fetch", "@x402/evm", "@coinbase/cdp-sdk", "viem"]


class X402Spender(Spender):
    """One payer: a process with a key, a ledger file and controls of its own."""

    def __init__(self, env: dict[str, str], seller: str, window: int, faked: clock.FakeClock | None) -> None:
        self.env, self.seller, self.window, self.clock = env, seller, window, faked
        self.url = f"http://127.0.0.1:{env['PORT']}"
        self.up()
        self.payer = call("GET", f"{self.url}/spent")[1]["payer"]

    def up(self) -> None:
        log = Path(self.env["LEDGER"]).with_suffix(".log")
        self.process = Process(["node", HERE / "x402_payer.mjs"], log, self.env)
        until("the payer", self.ready, 60, self.process)

    def ready(self) -> bool:
        try:
            return call("GET", f"{self.url}/spent")[0] == 200
        except (NoConnection, Lost):
            return False

    def spend(self, key: str) -> Answer:
        try:
            said = call("POST", f"{self.url}/spend")[1]
        except NoConnection as error:
            return Answer(Kind.AGAIN, str(error))
        except Lost as error:
            # Asking again would be another payment: the client has no keys.
            return Answer(Kind.UNKNOWN, f"the payer died: {error}")
        return Answer(Kind(said["status"]), said["text"])

    def paid(self) -> int:
        return int(call("GET", f"{self.seller}/paid?payer={self.payer}")[1]["paid"])

    def counted(self) -> int:
        return int(call("GET", f"{self.url}/spent")[1]["spent"])

    def settle(self) -> None:
        time.sleep(0.5)

    def kill(self) -> None:
        self.process.kill()
        self.up()

    def now(self) -> float:
        return float(call("GET", f"{self.url}/spent")[1]["now"])

    def boundary(self) -> float:
        return (self.now() // self.window + 1) * self.window

    def wait_until(self, moment: float) -> None:
        time.sleep(max(0.0, moment - self.now()))

    def shift_clock(self, seconds: int) -> None:
        assert self.clock
        self.clock.shift(seconds)

    def close(self) -> None:
        self.process.end()


class X402(Subject):
    """@x402/fetch with applySpendControls of @coinbase/cdp-sdk."""

    def __init__(self) -> None:
        no_keys = "the controls know no keys; each call signs a payment of its own"
        fixed = "controls are applied once, when the client is made"
        super().__init__(
            "x402 client with CDP spend controls", "$", PRICE, sliding=True, short_window=20,
            not_offered={"5": no_keys, "6": no_keys, "7a": fixed, "7b": fixed, "8": fixed},
        )
        self.dir = Path(tempfile.mkdtemp(prefix="torture-x402-"))
        self.count = 0
        self.process: Process | None = None

    def start(self) -> None:
        self.packages = npm("x402")
        port = free_port()
        self.seller = f"http://127.0.0.1:{port}"
        self.env = {"TORTURE_X402": str(self.packages), "SELLER": self.seller, "PRICE": str(PRICE)}
        log = self.dir / "seller.log"
        self.process = Process(["node", HERE / "x402_seller.mjs"], log, {**self.env, "PORT": str(port)})

        def ready() -> bool:
            try:
                return call("GET", f"{self.seller}/paid?payer=nobody")[0] == 200
            except (NoConnection, Lost):
                return False

        until("the seller", ready, 60, self.process)

    def stop(self) -> None:
        if self.process:
            self.process.end()
        shutil.rmtree(self.dir, ignore_errors=True)

    def versions(self) -> list[str]:
        found = [npm_version(self.packages, name) for name in PACKAGES]
        return [*found, f"node {run(['node', '--version']).strip()}", clock.version()]

    def configuration(self) -> str:
        return (
            "`wrapFetchWithPayment` of `@x402/fetch`, scheme `exact` on Base Sepolia, with"
            " `applySpendControls(client, {maxAmountPerPayment, maxCumulativeSpend,"
            " maxCumulativeSpendWindow, allowedNetworks, store})`: `maxCumulativeSpend` alone is the"
            " lifetime limit, with a window of `1h` (`20s` in 2) the rolling one. The default store"
            " forgets with the process, so the controls have the durable `SpendStore` that the SDK's"
            " documentation asks for: a file, flushed before `append` returns. One process, one client:"
            " several processes on one store were not tried. The seller checks signatures and nonces,"
            f" counts each payment of ${PRICE / 1_000_000:g} and answers after 50 ms; nothing touches a"
            " chain. *Counted* is the sum of the store. `@x402/core` by itself caps only single payments"
            " (`setSpendControls`), and has neither an hourly nor a lifetime budget."
            " Answers that died with the process in 4 are not counted as lost."
        )

    def spender(self, limits: Limits, *, fake_clock: bool = False) -> X402Spender:
        self.count += 1
        faked = clock.FakeClock(self.dir) if fake_clock and limits.window_seconds == 3_600 else None
        limit = limits.lifetime if limits.window is None else limits.window
        env = {
            **self.env,
            **(faked.env if faked else {}),
            "PORT": str(free_port()),
            "KEY": f"0x{secrets.token_hex(32)}",
            "LIMIT": str(limit),
            "WINDOW": "" if limits.window is None else f"{limits.window_seconds}s",
            "LEDGER": str(self.dir / f"{self.count}.ledger"),
        }
        return X402Spender(env, self.seller, limits.window_seconds, faked)
