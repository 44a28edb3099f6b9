"""What the files of checks share: one line per check, and where the nodes are."""

import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from decimal import Decimal

BIN = os.environ["BIN"]
SELLER = os.environ["SELLER"]
SELLER_DIR = os.environ["SELLER_DIR"]
BUYER_DIR = os.environ["BUYER_DIR"]
BUYER_URL = os.environ["BUYER_URL"]
BUYER_TOKEN = os.environ["BUYER_TOKEN"]
REPOSITORY = os.environ["REPOSITORY"]
CLAUDE = os.environ["CLAUDE"]

failed = False


def too_late(_signal, _frame):
    raise TimeoutError("the checks of this file took longer than 2 minutes")


signal.signal(signal.SIGALRM, too_late)
signal.alarm(120)


@contextmanager
def check(what):
    """Says whether the block came to its end; further checks go on either way."""
    global failed
    try:
        yield
    except Exception as error:  # whatever it is, it is what the line has to say
        failed = True
        print(f"FAIL {what}: {describe(error)}")
    else:
        print(f"ok   {what}")


def describe(error):
    """One line, also for the groups that anyio raises."""
    inner = getattr(error, "exceptions", None)
    if inner:
        return "; ".join(describe(e) for e in inner)
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def equal(is_, should, what):
    if is_ != should:
        raise AssertionError(f"{what} is {is_!r}, not {should!r}")


def hold(true, what):
    if not true:
        raise AssertionError(what)


def paid(answer):
    """The cost of an answer or an x_tirami that A served; money is never a float."""
    equal(answer["provider"], SELLER, "provider")
    equal(answer["local"], False, "local")
    hold(answer["receipt"], "there is no receipt")
    for name in ("trm_cost", "trm_balance"):
        hold(isinstance(answer[name], str), f"{name} is no string: {answer[name]!r}")
    cost = Decimal(answer["trm_cost"])
    hold(cost > 0, f"the cost is {cost}")
    return cost


def tirami(*words, data_dir=BUYER_DIR):
    """What tirami-agent says on standard output."""
    command = [BIN, *words, "--data-dir", data_dir]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    equal(done.returncode, 0, f"{' '.join(words)}: {done.stdout}{done.stderr}: exit code")
    return done.stdout


def finish():
    sys.exit(1 if failed else 0)
