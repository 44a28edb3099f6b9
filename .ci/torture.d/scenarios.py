"""The scenarios: the same code for every subject.

Each says what it asked for, what was accepted, and three sums that should be nothing:

- over: paid above what the limits allow, or by a spend that began after its right was taken away;
- lost: paid, but no answer is to be had for it, or the subject's own books do not know of it;
- twice: paid more than once for one key.
"""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from subject import Answer, Kind, Limits, Spender, Subject

# Work under way at once in the races.
RACERS = 64
# How often one key is asked for again before the spender gives up.
TRIES = 400


@dataclass
class Result:
    scenario: str
    attempts: int = 0
    accepted: int = 0
    over: int = 0
    lost: int = 0
    twice: int = 0
    note: str = ""

    def clean(self) -> bool:
        return not (self.over or self.lost or self.twice)


@dataclass(frozen=True)
class Size:
    """How much of everything."""

    spenders: int
    kills: int
    retries: int
    cuts: int
    race_seconds: float


FULL = Size(spenders=1_000, kills=2, retries=100, cuts=60, race_seconds=1.5)
QUICK = Size(spenders=300, kills=1, retries=100, cuts=20, race_seconds=0.7)

_numbers = itertools.count(1)


def key() -> str:
    """A key that nobody used before."""
    return f"torture-{next(_numbers)}-{random.getrandbits(64):016x}"


def persist(spender: Spender, name: str) -> Answer:
    """Asks until there is a decision, under the same key."""
    answer = Answer(Kind.AGAIN)
    for attempt in range(TRIES):
        answer = spender.spend(name)
        if answer.kind is not Kind.AGAIN:
            return answer
        time.sleep(random.uniform(0.01, min(0.5, 0.02 * (attempt + 1))))
    return Answer(Kind.UNKNOWN, f"no decision after {TRIES} tries: {answer.text}")


def burst(count: int, task: Callable[[int], Answer], threads: int | None = None) -> list[Answer]:
    """Runs `count` tasks, all at once unless there are fewer threads."""
    with ThreadPoolExecutor(threads or count) as pool:
        if threads is None:
            gate = threading.Barrier(count)

            def begin(number: int) -> Answer:
                gate.wait()
                return task(number)

            return list(pool.map(begin, range(count)))
        return list(pool.map(task, range(count)))


def ask_each(spender: Spender, count: int, threads: int | None = None) -> list[Answer]:
    """As many spends, each under a key of its own."""
    return burst(count, lambda _: persist(spender, key()), threads)


def accepted(answers: list[Answer]) -> int:
    return sum(answer.kind is Kind.ACCEPTED for answer in answers)


def oddities(answers: list[Answer]) -> str:
    """What was answered that is neither yes nor no."""
    odd = [answer.text for answer in answers if answer.kind is Kind.UNKNOWN]
    return f"{len(odd)} without a decision ({odd[0][:80]})" if odd else ""


def joined(*notes: str) -> str:
    return "; ".join(filter(None, notes))


def judge(
    scenario: str, subject: Subject, spender: Spender, answers: list[Answer], allowed: int, keys: int
) -> Result:
    """Compares what was paid with what was allowed, answered and counted."""
    spender.settle()
    paid, yes = spender.paid(), accepted(answers)
    twice = max(0, paid - keys * subject.price)
    unanswered = max(0, paid - yes * subject.price - twice)
    lost = max(0, paid - spender.counted())
    notes = [oddities(answers)]
    if "6" not in subject.not_offered:
        lost = max(lost, unanswered)
    elif unanswered:
        # There is no claim that an answer can be asked for again, so it is said and not counted.
        notes.append(f"{unanswered // subject.price} paid and never answered, with no key to ask again")
    result = Result(scenario, len(answers), yes, max(0, paid - allowed), lost, twice)
    result.note = joined(*notes)
    return result


def parallel_lifetime(subject: Subject, size: Size) -> Result:
    limit = subject.price * size.spenders // 10
    spender = subject.spender(Limits(lifetime=limit))
    answers = ask_each(spender, size.spenders)
    result = judge("1a", subject, spender, answers, limit, size.spenders)
    spender.close()
    return result


def parallel_hour(subject: Subject, size: Size) -> Result:
    limit = subject.price * size.spenders // 10
    spender = subject.spender(Limits(window=limit))
    answers = ask_each(spender, size.spenders)
    result = judge("1b", subject, spender, answers, limit, size.spenders)
    spender.close()
    return result


def boundary(subject: Subject, size: Size) -> Result:
    limit = subject.price * 20
    seconds = subject.short_window
    spender = subject.spender(Limits(window=limit, window_seconds=seconds), fake_clock=True)
    end = spender.boundary()
    spender.wait_until(end - 3)
    answers = ask_each(spender, 60, 20)
    before = spender.paid()
    spender.wait_until(end + 2)
    answers += ask_each(spender, 60, 20)
    spender.settle()
    around = spender.paid()
    # A window later the budget must be back, or the limit would only hold because all stopped.
    spender.wait_until(end + 2 + seconds + 70 * (seconds >= 3_600))
    answers += ask_each(spender, 60, 20)
    windows = 2 if subject.sliding else 3
    result = judge("2", subject, spender, answers, windows * limit, len(answers))
    if subject.sliding:
        result.over = max(result.over, around - limit)
    later = spender.paid() - around
    result.note = joined(
        f"{around / limit:.2f} x the limit within 5 s around the boundary",
        "" if subject.sliding else "the window is documented as fixed",
        f"{before / limit:.2f} x before it, {later / limit:.2f} x a window later",
        result.note,
    )
    spender.close()
    return result


def clock_jumps(subject: Subject, size: Size) -> Result:
    limit = subject.price * 20
    spender = subject.spender(Limits(window=limit), fake_clock=True)
    answers: list[Answer] = []
    seen = []
    # The window is spent, the clock jumps; an hour and a bit ahead a second window may be spent.
    for shift, count in [(0, 40), (-86_400, 40), (0, 40), (3_700, 10), (0, 40), (-86_400, 40)]:
        spender.shift_clock(shift)
        answers += ask_each(spender, count, 20)
        seen.append(f"{shift:+d} s: {accepted(answers)}")
    result = judge("3", subject, spender, answers, 2 * limit, len(answers))
    result.note = joined(f"accepted so far, 20 a window: {', '.join(seen)}", result.note)
    spender.close()
    return result


def restart(subject: Subject, size: Size) -> Result:
    count = size.spenders // 2
    limit = subject.price * count // 10
    spender = subject.spender(Limits(lifetime=limit))
    first: list[Answer] = []
    running = threading.Thread(target=lambda: first.extend(ask_each(spender, count, RACERS)))
    running.start()
    for number in range(size.kills):
        mark = limit * (number + 1) // (size.kills + 2)
        end = time.monotonic() + 20
        while spender.paid() < mark and time.monotonic() < end and running.is_alive():
            time.sleep(0.005)
        spender.kill()
    running.join()
    spender.settle()
    # What was spent before still counts: whatever is asked now must fit into the rest.
    answers = first + ask_each(spender, count, RACERS)
    result = judge("4", subject, spender, answers, limit, len(answers))
    kills = f"{size.kills} times SIGKILL" if size.kills > 1 else "SIGKILL once"
    result.note = joined(kills, result.note)
    spender.close()
    return result


def same_key(subject: Subject, size: Size) -> Result:
    spender = subject.spender(Limits(lifetime=subject.price * 1_000))
    name = key()
    answers = burst(size.retries, lambda _: persist(spender, name))
    result = judge("5", subject, spender, answers, subject.price * 1_000, 1)
    spender.close()
    return result


def lost_answers(subject: Subject, size: Size) -> Result:
    limit = subject.price * 10_000
    spender = subject.spender(Limits(lifetime=limit))
    names = [key() for _ in range(size.cuts)]

    def one(number: int) -> Answer:
        for _ in range(2):
            spender.cut(names[number], random.uniform(0, 0.04))
        return persist(spender, names[number])

    answers = burst(len(names), one, 16)
    result = judge("6", subject, spender, answers, limit, len(names))
    result.note = joined("each key cut twice, then asked for", result.note)
    spender.close()
    return result


@dataclass
class Spend:
    began: float
    ended: float
    answer: Answer


def race(
    scenario: str, subject: Subject, size: Size, stop: Callable[[Spender], None], what: str
) -> Result:
    """Spends without pause, and takes the right away in the middle of it."""
    limit = subject.price * 10_000
    spender = subject.spender(Limits(lifetime=limit, window=None))
    over = threading.Event()

    def keep_on(_: int) -> list[Spend]:
        done: list[Spend] = []
        while not over.is_set():
            began = time.monotonic()
            answer = spender.spend(key())
            done.append(Spend(began, time.monotonic(), answer))
            if answer.kind is not Kind.ACCEPTED:
                time.sleep(0.02)
        return done

    with ThreadPoolExecutor(RACERS) as pool:
        racing = [pool.submit(keep_on, number) for number in range(RACERS)]
        end = time.monotonic() + 10
        while spender.paid() < 20 * subject.price and time.monotonic() < end:
            time.sleep(0.01)
        time.sleep(size.race_seconds)
        stop(spender)
        acknowledged = time.monotonic()
        time.sleep(size.race_seconds)
        over.set()
        spends = [spend for each in racing for spend in each.result()]
    answers = [spend.answer for spend in spends]
    result = judge(scenario, subject, spender, answers, limit, len(answers))
    yes = [spend for spend in spends if spend.answer.kind is Kind.ACCEPTED]
    late = sum(spend.began > acknowledged for spend in yes)
    under_way = sum(spend.began <= acknowledged < spend.ended for spend in yes)
    result.over = max(result.over, late * subject.price, spender.settled_after_freeze())
    result.note = joined(
        what,
        f"{late} that began after the acknowledgement were accepted",
        f"{under_way} that began before it ended after it",
        result.note,
    )
    spender.close()
    return result


def revocation(subject: Subject, size: Size) -> Result:
    return race("7a", subject, size, lambda spender: spender.revoke(), "revoked")


def lowering(subject: Subject, size: Size) -> Result:
    little = Limits(lifetime=subject.price)
    return race("7b", subject, size, lambda spender: spender.lower(little), "limit lowered")


def freezing(subject: Subject, size: Size) -> Result:
    return race("8", subject, size, lambda spender: spender.freeze(), "frozen")


Scenario = Callable[[Subject, Size], Result]

SCENARIOS: dict[str, tuple[str, Scenario]] = {
    "1a": ("parallel spenders, one lifetime limit", parallel_lifetime),
    "1b": ("parallel spenders, one hourly limit", parallel_hour),
    "2": ("bursts around a window's boundary", boundary),
    "3": ("clock jumps: -1 day, +1 hour", clock_jumps),
    "4": ("SIGKILL in the middle of a burst", restart),
    "5": ("parallel retries under one key", same_key),
    "6": ("answers lost and asked for again", lost_answers),
    "7a": ("revoked while 64 spend", revocation),
    "7b": ("limit lowered while 64 spend", lowering),
    "8": ("frozen while 64 spend", freezing),
}
