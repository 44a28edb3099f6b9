"""Prints results, and writes them to docs/torture.md."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

from scenarios import SCENARIOS, Result, Size
from subject import Subject
from tools import ROOT

HEAD = """# Torture

What holds a spending limit when 1,000 spend at once, a clock jumps, a process dies or an answer is
lost? `make torture` asks that of `tirami-agent` and of two others that can be installed from public
registries, with the same scenarios, and writes this page. `.ci/torture --only tirami --quick` asks
only us, in less than a minute; `.ci/torture --self-test` tortures a wallet that leaks, and every
scenario must see it. The suite exits with 1 when one of our own sums is not zero, or did not run.

Nothing here calls a network beyond loopback once it is installed: models, sellers and facilitators
are local stand-ins that keep count of what they were paid.

## What the numbers mean

| column | what |
|---|---|
| attempts, accepted | spends that were asked for, and that were answered with yes |
| over | paid above what the limits allow, or by a spend that began after its right was taken away |
| lost | paid, but nobody got an answer for it, or the subject's own books do not know of it |
| twice | paid more than once for one key |

*Paid* is what the side that is paid has counted, never what a client believes. Scenarios that a
subject makes no claim about are *not offered* and count for nothing.

"""


@dataclass
class Run:
    subject: Subject
    versions: list[str]
    configuration: str
    results: list[Result | str]


def amount(subject: Subject, millionths: int) -> str:
    text = f"{millionths / 1_000_000:.6f}".rstrip("0").rstrip(".")
    return f"${text}" if subject.unit == "$" else f"{text} {subject.unit}"


def say(subject: Subject, title: str, outcome: Result | str, seconds: float) -> None:
    if isinstance(outcome, str):
        print(f"     {subject.name} {outcome}", flush=True)
        return
    word = "ok  " if outcome.clean() else "FAIL"
    sums = ", ".join(
        f"{name} {amount(subject, value)}"
        for name, value in [("over", outcome.over), ("lost", outcome.lost), ("twice", outcome.twice)]
    )
    note = f" ({outcome.note})" if outcome.note else ""
    print(
        f"{word} {subject.name} {outcome.scenario}: {title}: {outcome.attempts} attempts,"
        f" {outcome.accepted} accepted, {sums}, in {seconds:.0f} s{note}",
        flush=True,
    )


def table(run: Run) -> list[str]:
    lines = [
        "| | scenario | attempts | accepted | over | lost | twice |",
        "|---|---|---|---|---|---|---|",
    ]
    for outcome in run.results:
        if isinstance(outcome, str):
            number, what = outcome.split(": ", 1)
            lines.append(f"| {number} | {SCENARIOS[number][0]} | {what.split(':')[0]} | | | | |")
            continue
        sums = [amount(run.subject, value) for value in (outcome.over, outcome.lost, outcome.twice)]
        cells = [outcome.scenario, SCENARIOS[outcome.scenario][0]]
        cells += [f"{outcome.attempts:,}", f"{outcome.accepted:,}"]
        shown = [text if text.strip("$").split()[0] == "0" else f"**{text}**" for text in sums]
        lines.append(f"| {' | '.join(cells + shown)} |")
    return lines


def notes(run: Run) -> list[str]:
    lines = []
    for outcome in run.results:
        if isinstance(outcome, str):
            lines.append(f"- {outcome}")
        elif outcome.note:
            lines.append(f"- {outcome.scenario}: {outcome.note}")
    return lines


def wrapped(text: str) -> list[str]:
    """Paragraphs of at most 100 columns; what is fenced stays as it is."""
    lines: list[str] = []
    fenced = False
    for line in text.split("\n"):
        fence = line.startswith("```")
        fenced = fenced != fence
        further = "  " if line.startswith("- ") else ""
        whole = fenced or fence or not line
        lines += [line] if whole else textwrap.wrap(line, 100, subsequent_indent=further, break_long_words=False)
    return lines


def write(runs: list[Run], size: Size) -> None:
    lines = [HEAD.rstrip(), "", "## The last run", ""]
    halves = f"{size.spenders // 2:,} spends in each half of 4, 64 at a time."
    lines += [f"{size.spenders:,} spenders in 1a and 1b, {halves}", ""]
    for run in runs:
        lines += [f"### {run.subject.name}", ""]
        if run.versions:
            lines += [*wrapped(f"Ran: {', '.join(run.versions)}."), ""]
        lines += [*wrapped(run.configuration), ""]
        if run.results:
            lines += [*table(run), "", *wrapped("\n".join(notes(run))), ""]
    (ROOT / "docs" / "torture.md").write_text("\n".join(lines).rstrip() + "\n")
