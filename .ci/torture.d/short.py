"""The real binary where the system does less than it was asked: short writes, EINTR, ENOMEM, and no
file descriptors left.

Short and interrupted calls change nothing. Where memory is missing a purchase may fail: without a
panic, and its key carries on and pays once. Where descriptors are missing the doors wait without
working, and open again within two seconds.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from pair import Pair, chat
from syncs import strace
from tirami import question
from tools import CACHE, HERE, Lost, NoConnection, call, run, until

# What reads, writes and flushes the wallet.
FILES = "pread64,pwrite64,fsync,fdatasync"
# Descriptors that a node is left with: a little more than it needs by itself.
DESCRIPTORS = 64


def library() -> Path:
    CACHE.mkdir(parents=True, exist_ok=True)
    built = CACHE / "short.so"
    run(["cc", "-shared", "-fPIC", "-O1", "-o", built, HERE / "short.c"])
    return built


def short(purchases: int) -> None:
    """Both nodes, and every purchase, with writes that are cut."""
    with Pair("short", {"LD_PRELOAD": str(library())}) as pair:
        for number in range(purchases):
            key, before = f"short/{number}", pair.agree()
            code, answer, said = chat(pair.buyer, key, [])
            if code != 0:
                raise SystemExit(f"FAIL a short write ends a purchase: {said}")
            pair.carries_on(key, "short writes", answer, before)
    print(f"ok   writes cut to half and to a byte: {purchases} purchases as if they were whole")


def failing(pair: Pair, calls: str, error: str, most: int, step: int = 1) -> None:
    """The call fails at its N-th time in each thread, for N up to `most`."""
    wallet = ["-P", str(pair.buyer.dir / "wallet.redb")] if calls == FILES else []
    met = 0
    for at in range(1, most + 1, step):
        key, before = f"{calls}/{error}/{at}", pair.agree()
        code, answer, said = chat(pair.buyer, key, [*strace(calls, f"error={error}", at), *wallet])
        what = f"{error} at call {at} of {calls}"
        if "panicked" in said:
            raise SystemExit(f"FAIL {what}: {said}")
        if error == "EINTR" and code != 0:
            raise SystemExit(f"FAIL {what} ends a purchase ({code}): {said}")
        pair.carries_on(key, what, answer, before)
        met += code != 0
    print(f"ok   {error} at {calls}: {met} purchases failed and carried on, nothing lost or twice")


def busy_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def flood(kind: int, address: tuple[str, int] | str, many: int) -> Iterator[None]:
    """Connections that are made and say nothing."""
    with contextlib.ExitStack() as all_of_them:
        for _ in range(many):
            one = all_of_them.enter_context(socket.socket(kind, socket.SOCK_STREAM))
            one.setblocking(False)
            # The system's queue may be full: then one more would change nothing.
            one.connect_ex(address)
        yield


def descriptors(many: int) -> None:
    """A node with few descriptors, and more connections than it can take."""
    with Pair("descriptors") as pair:
        buyer = pair.buyer
        buyer.up()
        assert buyer.process
        pid = buyer.process.child.pid
        token = (buyer.dir / "agent.token").read_text().strip()
        url = f"{buyer.url}/v1/chat/completions"
        status, first = call("POST", url, question("before"), token)
        assert status == 200, first
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS))
        host, port = buyer.url.removeprefix("http://").split(":")
        doors = {
            "HTTP": (socket.AF_INET, (host, int(port))),
            "local-socket": (socket.AF_UNIX, str(buyer.dir / "node.sock")),
        }
        for name, (kind, address) in doors.items():
            with flood(kind, address, many):
                full = lambda: len(os.listdir(f"/proc/{pid}/fd")) >= DESCRIPTORS - 1  # noqa: E731
                until(f"no descriptor is left ({name})", full, 10)
                before = busy_seconds(pid)
                time.sleep(2)
                busy = busy_seconds(pid) - before
                if busy > 0.5:
                    raise SystemExit(f"FAIL {name}: {busy:.2f} s of 2 s spent on accepting nothing")
                with contextlib.suppress(NoConnection, Lost):
                    call("POST", url, question(f"in/{name}"), token, wait=1)
            gone = time.monotonic()

            def answers() -> bool:
                with contextlib.suppress(NoConnection, Lost):
                    return call("POST", url, question(f"in/{name}"), token, wait=5)[0] == 200
                return False

            until(f"the door opens again ({name})", answers, 10)
            took = time.monotonic() - gone
            if took > 2:
                raise SystemExit(f"FAIL {name}: the door opened after {took:.1f} s")
            # Both doors, and the same answer to the same key.
            buyer.ask("balance")
            status, again = call("POST", url, question("before"), token)
            assert status == 200 and again["x_tirami"]["receipt"] == first["x_tirami"]["receipt"]
            print(
                f"ok   no descriptors left, {name}: {busy:.2f} s of processor time in 2 s,"
                f" open again after {took:.2f} s"
            )
        if "panicked" in buyer.process.text():
            raise SystemExit(f"FAIL a panic: {buyer.process.text()}")
        pair.agree()


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--most", type=int, default=60, help="calls of each kind that fail in turn")
    most = options.parse_args().most
    short(10)
    with Pair("failing") as pair:
        failing(pair, FILES, "EINTR", most)
        failing(pair, FILES, "ENOMEM", most)
        failing(pair, "mmap,mremap,brk", "ENOMEM", 4 * most, 7)
    descriptors(200)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except subprocess.TimeoutExpired as error:
        sys.exit(f"FAIL it does not end: {error}")
