"""Runs the torture suite and reports."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Callable

import report
from leaky import Leaky
from litellm_proxy import LiteLLM
from scenarios import FULL, QUICK, SCENARIOS, Result, Size
from subject import Subject
from tirami import Tirami
from tools import Missing
from x402_client import X402


def subjects(only: list[str]) -> dict[str, Subject]:
    every: dict[str, Callable[[], Subject]] = {"tirami": Tirami, "litellm": LiteLLM, "x402": X402}
    unknown = [name for name in only if name not in every]
    if unknown:
        raise SystemExit(f"torture: there is no subject {unknown[0]}; there are {', '.join(every)}")
    return {name: make() for name, make in every.items() if not only or name in only}


def torture(subject: Subject, chosen: list[str], size: Size) -> list[Result | str]:
    """Every scenario on one subject; a text is why it did not run."""
    found: list[Result | str] = []
    for number, (title, scenario) in SCENARIOS.items():
        if chosen and number not in chosen:
            continue
        began = time.monotonic()
        if number in subject.not_offered:
            outcome: Result | str = f"{number}: not offered: {subject.not_offered[number]}"
        else:
            try:
                outcome = scenario(subject, size)
                if not outcome.accepted:
                    raise Missing(f"nothing was accepted: {outcome.note}")
            except Exception as error:  # one failure must not hide the other results
                outcome = f"{number}: did not run: {type(error).__name__}: {str(error)[-300:]}"
        report.say(subject, title, outcome, time.monotonic() - began)
        found.append(outcome)
    return found


def self_test() -> int:
    """Every scenario must fail on a wallet that breaks every promise."""
    results = torture(Leaky(), [], QUICK)
    missed = [each for each in results if isinstance(each, str) or each.clean()]
    print(f"torture: self-test: {len(results) - len(missed)} of {len(results)} scenarios saw the leak")
    return 1 if missed else 0


def main() -> int:
    parser = argparse.ArgumentParser(prog=".ci/torture", description="Tortures spending limits.")
    parser.add_argument("--only", action="append", default=[], metavar="SUBJECT")
    parser.add_argument("--scenario", action="append", default=[], choices=SCENARIOS)
    parser.add_argument("--quick", action="store_true", help="fewer spenders, kills and cuts")
    parser.add_argument("--report", action="store_true", help="write docs/torture.md")
    parser.add_argument("--self-test", action="store_true", help="torture a wallet that leaks")
    given = parser.parse_args()
    if given.self_test:
        return self_test()
    # So that what was started ends too, also in the background, where a shell has SIGINT ignored.
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, lambda number, _: sys.exit(128 + number))
    size = QUICK if given.quick else FULL
    began = time.monotonic()
    runs: list[report.Run] = []
    for name, subject in subjects(given.only).items():
        try:
            subject.start()
            print(f"{name}: {', '.join(subject.versions())}", flush=True)
            print(f"{name}: {subject.configuration()}", flush=True)
            results = torture(subject, given.scenario, size)
            runs.append(report.Run(subject, subject.versions(), subject.configuration(), results))
        except Missing as missing:
            print(f"{name}: could not be started: {missing}", flush=True)
            runs.append(report.Run(subject, [], f"It could not be started: {missing}", []))
        finally:
            subject.stop()
    if given.report:
        report.write(runs, size)
    ours = [run for run in runs if run.subject.name == "tirami-agent"]
    bad = [each for run in ours for each in run.results if isinstance(each, str) or not each.clean()]
    bad += [run.configuration for run in ours if not run.results]
    count = sum(len(run.results) for run in runs)
    verdict = f"tirami-agent failed {len(bad)}" if bad else "tirami-agent failed none"
    if not ours:
        verdict = "tirami-agent was not asked"
    print(f"torture: {count} results in {time.monotonic() - began:.0f} s; {verdict}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
