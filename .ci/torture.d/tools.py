"""Processes, requests and installations that all subjects need."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).resolve()
CACHE = TARGET / "torture"

Json = dict[str, Any]
Found = TypeVar("Found")


class Missing(Exception):
    """Something that is needed cannot be had here."""


class NoConnection(Exception):
    """Nothing was sent: the connection could not be made."""


class Lost(Exception):
    """The request was sent and no answer came."""


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def call(
    method: str, url: str, body: object = None, token: str = "", wait: float = 60
) -> tuple[int, Json]:
    """One request on a connection of its own, and the JSON that answers it."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=wait)
    with contextlib.closing(connection):
        try:
            connection.connect()
        except OSError as error:
            raise NoConnection(str(error)) from error
        headers = {"content-type": "application/json"}
        if token:
            headers["authorization"] = f"Bearer {token}"
        target = f"{parts.path}?{parts.query}" if parts.query else parts.path
        try:
            sent = None if body is None else json.dumps(body)
            connection.request(method, target, sent, headers)
            response = connection.getresponse()
            said = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise Lost(str(error)) from error
    try:
        answer = json.loads(said)
    except ValueError:
        answer = {"text": said.decode(errors="replace")}
    return response.status, answer if isinstance(answer, dict) else {"list": answer}


def cut(url: str, body: object, token: str, after: float) -> None:
    """Sends a request, waits a moment and cuts the connection without reading."""
    parts = urlsplit(url)
    sent = json.dumps(body).encode()
    head = (
        f"POST {parts.path} HTTP/1.1\r\nhost: {parts.netloc}\r\nauthorization: Bearer {token}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(sent)}\r\n\r\n"
    )
    with socket.create_connection((parts.hostname or "", parts.port or 80), 30) as connection:
        connection.sendall(head.encode() + sent)
        time.sleep(after)


def run(words: Sequence[str | Path], **options: Any) -> str:
    """Runs a command to its end; what it printed."""
    command = [str(word) for word in words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    if done.returncode != 0:
        said = done.stdout[-600:] + done.stderr[-600:]
        raise Missing(f"{Path(command[0]).name} {' '.join(command[1:4])}: {said}")
    return str(done.stdout)


class Process:
    """A process with a group of its own, its output in a file."""

    def __init__(
        self, words: Sequence[str | Path], log: Path, env: dict[str, str] | None = None
    ) -> None:
        self.log = log
        with log.open("ab") as output:
            self.child = subprocess.Popen(
                [str(word) for word in words],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(env or {})},
                start_new_session=True,
                cwd=log.parent,
            )

    def end(self, wait: float = 30) -> None:
        """Asks the process to end, waits, and kills what is left."""
        self.child.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.child.wait(wait)
        self.kill()

    def kill(self) -> None:
        """SIGKILL for the process and everything that it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.child.pid, signal.SIGKILL)
        self.child.wait()

    def text(self) -> str:
        return self.log.read_text(errors="replace")


def until(
    what: str, look: Callable[[], Found | None], wait: float = 60, process: Process | None = None
) -> Found:
    """Looks until there is something to see."""
    end = time.monotonic() + wait
    while time.monotonic() < end:
        found = look()
        if found:
            return found
        if process and process.child.poll() is not None:
            raise Missing(f"{what}: the process ended: {process.text()[-800:]}")
        time.sleep(0.05)
    raise Missing(f"{what}: not within {wait:.0f} s")


def installed(folder: Path, want: str) -> bool:
    stamp = folder / ".installed"
    return stamp.is_file() and stamp.read_text() == want


def stamp(folder: Path, want: str) -> None:
    (folder / ".installed").write_text(want)


def npm(name: str) -> Path:
    """Installs the packages of packages/NAME.json, without their scripts."""
    folder, wanted = CACHE / name, HERE / "packages" / f"{name}.json"
    want = wanted.read_text()
    if not installed(folder, want):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        shutil.copy(wanted, folder / "package.json")
        quiet = ["--no-audit", "--no-fund", "--loglevel=error", "--ignore-scripts"]
        run(["npm", "--prefix", folder, "install", *quiet], timeout=600)
        stamp(folder, want)
    return folder


def npm_version(folder: Path, package: str) -> str:
    found = json.loads((folder / "node_modules" / package / "package.json").read_text())
    return f"{package} {found['version']}"
