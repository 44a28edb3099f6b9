"""A PostgreSQL server of one's own, in a folder, for as long as it is needed."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from tools import Missing, Process, free_port, run, until


def program(name: str) -> str:
    """A program of PostgreSQL 15; Debian keeps the servers outside the PATH."""
    debian = Path("/usr/lib/postgresql/15/bin") / name
    found = str(debian) if debian.is_file() else shutil.which(name)
    if not found:
        raise Missing(f"{name} is not installed: it is in Debian's postgresql-15")
    return found


def as_nobody() -> list[str]:
    """The server refuses to run as root."""
    return ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"] if os.geteuid() == 0 else []


class Postgres:
    """An empty database `torture`, without a password, on loopback."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        folder.chmod(0o755)
        folder.parent.chmod(0o755)
        if os.geteuid() == 0:
            shutil.chown(folder, "nobody", "nogroup")
        data, port = folder / "data", free_port()
        run([*as_nobody(), program("initdb"), "-D", data, "-A", "trust", "-U", "postgres"], cwd=folder)
        words = [*as_nobody(), program("postgres"), "-D", str(data), "-p", str(port), "-k", str(folder)]
        self.process = Process([*words, "-c", "listen_addresses=127.0.0.1"], folder.with_suffix(".log"))
        self.at = ["-h", "127.0.0.1", "-p", str(port), "-U", "postgres"]
        until("PostgreSQL", self.ready, 60, self.process)
        run([program("createdb"), *self.at, "torture"])
        self.url = f"postgresql://postgres@127.0.0.1:{port}/torture"

    def ready(self) -> bool:
        try:
            run([program("pg_isready"), *self.at])
        except Missing:
            return False
        return True

    def file(self, path: Path) -> None:
        """Runs a file of SQL."""
        run([program("psql"), *self.at, "-q", "-v", "ON_ERROR_STOP=1", "-f", path, "torture"])

    def stop(self) -> None:
        self.process.end()


def version() -> str:
    return run([program("postgres"), "--version"]).strip()
