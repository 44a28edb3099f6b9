"""A clock for one process that can be set: libfaketime, from Debian."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

from tools import CACHE, Missing, run


def library() -> Path:
    """Where libfaketime is; takes it out of its Debian package without installing it."""
    folder = CACHE / "faketime"
    found = sorted(folder.rglob("libfaketimeMT.so.1")) or sorted(
        Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")
    )
    if not found and shutil.which("apt-get"):
        folder.mkdir(parents=True, exist_ok=True)
        # The folder is root's; apt says so and takes the package all the same.
        run(["apt-get", "-q", "download", "libfaketime"], cwd=folder, timeout=120)
        for package in folder.glob("*.deb"):
            run(["dpkg", "-x", package, folder])
        found = sorted(folder.rglob("libfaketimeMT.so.1"))
    if not found:
        raise Missing("libfaketime is not installed and apt-get cannot download it")
    return found[0]


def version() -> str:
    library()
    packages = sorted((CACHE / "faketime").glob("libfaketime_*.deb"))
    return f"libfaketime {packages[0].name.split('_')[1]}" if packages else "libfaketime"


class FakeClock:
    """What the time is for every process that gets this environment."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "clock"
        self.shifted = 0.0
        self.shift(0)
        self.env = {
            "LD_PRELOAD": str(library()),
            "FAKETIME_TIMESTAMP_FILE": str(self.file),
            "FAKETIME_NO_CACHE": "1",
            # Timeouts go on: only the time of day jumps, as when somebody sets a clock.
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def now(self) -> float:
        return time.time() + self.shifted

    def shift(self, seconds: float) -> None:
        """Sets the clock apart from the machine's by this much."""
        self.shifted = seconds
        new = self.file.with_suffix(".new")
        new.write_text(f"{seconds:+.3f}\n")
        os.replace(new, self.file)

    def wait_until(self, moment: float) -> None:
        """Goes there at once."""
        self.shift(self.shifted + max(0.0, moment - self.now()))
