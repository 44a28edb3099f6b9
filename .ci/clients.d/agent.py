"""examples/agent.py, as a reader of the documentation runs it."""

import json
import os
import re
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

from checks import BUYER_DIR, BUYER_TOKEN, BUYER_URL, REPOSITORY, check, equal, finish, hold, tirami

AGENT = Path(REPOSITORY, "examples", "agent.py")


def run(*words, code=0, **env):
    done = subprocess.run(
        [sys.executable, AGENT, *words], env={**os.environ, "TIRAMI_URL": BUYER_URL, **env},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60,
    )
    said = done.stdout + done.stderr
    equal(done.returncode, code, f"{said}: exit code")
    return said


def balance():
    return Decimal(json.loads(tirami("balance", "--json"))["trm_balance"])


with check("agent.py: keeps to its budget and says truly what it spent"):
    before = balance()
    said = run("--budget", "2", "Hello!", "Why is the sky blue?", TIRAMI_TOKEN=BUYER_TOKEN)
    spent = Decimal(re.search(r"spent ([0-9.]+) of 2 TRM", said)[1])
    equal(balance(), before - spent, f"the balance, after {said}")
    hold(0 < spent <= 2, said)
    equal(len(re.findall(r" TRM to [0-9a-f]{10}, ", said)), 2, f"the answers in {said}")

with check("agent.py: finds its token, and stops where its own budget is too small"):
    said = run("--budget", "0.000001", "Hello!", code=3, TIRAMI_DATA_DIR=BUYER_DIR)
    hold("above_max_trm" in said and "spent 0 of 0.000001 TRM" in said, said)

with check("agent.py: on over_budget asks for what the owner's limit allows"):
    tirami("budget", "set", "--per-request", "0.3")
    before = balance()
    said = run("--budget", "2", "Why is the sky blue?", TIRAMI_TOKEN=BUYER_TOKEN)
    hold("over_budget" in said and "cut short by per_request" in said, said)
    hold(before - balance() <= Decimal("0.3"), said)
finish()
