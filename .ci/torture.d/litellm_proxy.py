"""LiteLLM's proxy with virtual keys: their budgets, in PostgreSQL, before a priced local model."""

from __future__ import annotations

import os
import secrets
import shutil
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

import clock
import postgres
from subject import Answer, Kind, Limits, Spender, Subject
from tools import (
    CACHE,
    HERE,
    Json,
    Lost,
    Missing,
    NoConnection,
    Process,
    call,
    free_port,
    installed,
    npm,
    npm_version,
    run,
    stamp,
    until,
)
from upstream import ANSWER_TOKENS, PROMPT_TOKENS, Upstream

MASTER = "sk-torture"
TOKEN_PRICE = 100  # millionths of a dollar
PRICE = TOKEN_PRICE * (PROMPT_TOKENS + ANSWER_TOKENS)
CONFIG = """model_list:
  - model_name: priced
    litellm_params:
      model: openai/priced
      api_base: {upstream}/v1
      api_key: none
    model_info:
      input_cost_per_token: {price}
      output_cost_per_token: {price}
general_settings:
  master_key: {master}
  database_url: os.environ/DATABASE_URL
  proxy_budget_rescheduler_min_time: 1
  proxy_budget_rescheduler_max_time: 1
"""


class LiteLLMSpender(Spender):
    """A virtual key with a budget."""

    def __init__(self, subject: LiteLLM, limits: Limits, faked: clock.FakeClock | None) -> None:
        self.subject, self.clock = subject, faked
        wanted: dict[str, object] = {"max_budget": self.dollars(limits)}
        if limits.window is not None:
            wanted["budget_duration"] = f"{limits.window_seconds}s"
        self.key = self.ask("POST", "/key/generate", wanted)["key"]
        self.name = secrets.token_hex(8)

    @staticmethod
    def dollars(limits: Limits) -> float | None:
        limit = limits.lifetime if limits.window is None else limits.window
        return None if limit is None else limit / 1_000_000

    def ask(self, method: str, path: str, body: object = None) -> Json:
        """Asks the proxy as its administrator."""
        status, said = call(method, f"{self.subject.url}{path}", body, MASTER, 120)
        if status != 200:
            raise Missing(f"LiteLLM answered {path} with {status}: {said}")
        return said

    def info(self) -> Json:
        found: Json = self.ask("GET", f"/key/info?key={self.key}")["info"]
        return found

    def spend(self, key: str) -> Answer:
        body = {
            "model": "priced",
            "max_tokens": ANSWER_TOKENS,
            # The first word tells the model whom to count this for.
            "messages": [{"role": "user", "content": f"{self.name} {key}"}],
        }
        try:
            status, said = call("POST", f"{self.subject.url}/v1/chat/completions", body, self.key, 120)
        except NoConnection as error:
            return Answer(Kind.AGAIN, str(error))
        except Lost as error:
            return Answer(Kind.UNKNOWN, f"the proxy died: {error}")
        if status == 200:
            return Answer(Kind.ACCEPTED)
        text = f"{status} {said.get('error', said)}"
        return Answer(Kind.REFUSED if status < 500 else Kind.UNKNOWN, text)

    def paid(self) -> int:
        return self.subject.upstream.served[self.name] * PRICE

    def counted(self) -> int:
        return round(float(self.info()["total_spend"]) * 1_000_000)

    def settle(self) -> None:
        """Spend reaches the database some seconds later; who revoked the key has nobody to ask."""
        self.right_the_clock()
        end = time.monotonic() + 45
        try:
            while self.counted() < self.paid() and time.monotonic() < end:
                time.sleep(0.5)
        except Missing:
            time.sleep(1)

    def kill(self) -> None:
        if self.subject.process:
            self.subject.process.kill()
        self.subject.up({})

    def revoke(self) -> None:
        self.ask("POST", "/key/delete", {"keys": [self.key]})
        # A deleted key has no books: what was paid counts as known.
        self.counted = self.paid  # type: ignore[method-assign]

    def lower(self, limits: Limits) -> None:
        self.ask("POST", "/key/update", {"key": self.key, "max_budget": self.dollars(limits)})

    def freeze(self) -> None:
        self.ask("POST", "/key/block", {"key": self.key})

    def boundary(self) -> float:
        return datetime.fromisoformat(self.info()["budget_reset_at"]).timestamp()

    def wait_until(self, moment: float) -> None:
        time.sleep(max(0.0, moment - time.time()))

    def shift_clock(self, seconds: int) -> None:
        assert self.clock
        self.clock.shift(seconds)
        # The job that begins new windows runs every second.
        time.sleep(4)

    def right_the_clock(self) -> None:
        """Stops the proxy in good order and starts it without a fake clock.

        The jobs that write the books wait for the moment they were due at, an hour ahead or a day
        ago; what the proxy still has in memory it can write when it is asked to stop.
        """
        if self.clock:
            self.clock = None
            self.subject.down()
            self.subject.up({})

    def close(self) -> None:
        self.right_the_clock()


class LiteLLM(Subject):
    """The proxy from PyPI, in one process."""

    def __init__(self) -> None:
        no_keys = "LiteLLM has no idempotency keys"
        super().__init__(
            "LiteLLM proxy, virtual keys", "$", PRICE, sliding=False, short_window=30,
            not_offered={"5": no_keys, "6": no_keys},
        )
        self.dir = Path(tempfile.mkdtemp(prefix="torture-litellm-"))
        self.database: postgres.Postgres | None = None
        self.process: Process | None = None

    def start(self) -> None:
        self.prisma = npm("prisma")
        self.python = self.install()
        self.database = postgres.Postgres(self.dir / "postgres")
        packages = next((self.python / "lib").glob("python*")) / "site-packages"
        for migration in sorted((packages / "litellm_proxy_extras" / "migrations").glob("2*/migration.sql")):
            self.database.file(migration)
        self.upstream = Upstream()
        price = TOKEN_PRICE / 1_000_000
        config = CONFIG.format(upstream=self.upstream.url, price=f"{price:.6f}", master=MASTER)
        (self.dir / "config.yaml").write_text(config)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.up({})

    def install(self) -> Path:
        """The proxy in a virtual environment, with the database client that Prisma generates for it."""
        folder, pins = CACHE / "litellm", HERE / "packages"
        lists = [pins / "litellm.txt", pins / "litellm-constraints.txt"]
        want = sys.version + "".join(path.read_text() for path in lists)
        if installed(folder, want):
            return folder
        shutil.rmtree(folder, ignore_errors=True)
        run([sys.executable, "-m", "venv", folder])
        pip = [str(folder / "bin" / "pip"), "install", "-q", "--no-input", "--disable-pip-version-check"]
        run([*pip, "-r", lists[0], "-c", lists[1]], timeout=900)
        schema = next(folder.glob("lib/python*/site-packages/litellm/proxy/schema.prisma"))
        ours = folder / "schema.prisma"
        # Without the other systems' engines, which the generator would download.
        lines = schema.read_text().splitlines(keepends=True)
        ours.write_text("".join(line for line in lines if "binaryTargets" not in line))
        prisma = self.prisma / "node_modules" / "prisma" / "build" / "index.js"
        path = f"{folder / 'bin'}:{os.environ['PATH']}"
        env = {**os.environ, **self.engines(), "DATABASE_URL": "postgresql://nobody", "PATH": path}
        run(["node", prisma, "generate", "--schema", ours], env=env, timeout=300)
        stamp(folder, want)
        return folder

    def engines(self) -> dict[str, str]:
        front = str(HERE / "prisma_front.mjs")
        names = ("QUERY_ENGINE_BINARY", "QUERY_ENGINE_LIBRARY", "SCHEMA_ENGINE_BINARY")
        told = {f"PRISMA_{name}": front for name in names}
        told |= {"PRISMA_HOME_DIR": str(CACHE / "prisma-home"), "CHECKPOINT_DISABLE": "1"}
        return {**told, "TORTURE_PRISMA": str(self.prisma)}

    def up(self, env: dict[str, str]) -> None:
        assert self.database
        words = [str(self.python / "bin" / "litellm"), "--config", str(self.dir / "config.yaml")]
        told = {
            **self.engines(),
            "DATABASE_URL": self.database.url,
            "DISABLE_SCHEMA_UPDATE": "true",  # the migrations are in already
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # no download of prices
            **env,
        }
        where = ["--host", "127.0.0.1", "--port", str(self.port)]
        self.process = Process([*words, *where], self.dir / "proxy.log", told)
        until("the proxy", self.ready, 180, self.process)

    def down(self) -> None:
        if self.process:
            self.process.end()
            self.process = None

    def ready(self) -> bool:
        try:
            return call("GET", f"{self.url}/health/readiness")[0] == 200
        except (NoConnection, Lost):
            return False

    def stop(self) -> None:
        self.down()
        if self.database:
            self.database.stop()
        shutil.rmtree(self.dir, ignore_errors=True)

    def versions(self) -> list[str]:
        frozen = run([self.python / "bin" / "pip", "freeze"]).splitlines()
        wanted = ("litellm==", "litellm-proxy-extras==", "prisma==")
        found = [line.replace("==", " ") for line in frozen if line.startswith(wanted)]
        names = ("@prisma/client", "@prisma/adapter-pg", "pg", "prisma")
        modules = [npm_version(self.prisma, name) for name in names]
        return [*found, *(f"npm {each}" for each in modules), postgres.version(), clock.version()]

    def configuration(self) -> str:
        config = (self.dir / "config.yaml").read_text().replace(self.upstream.url, "http://127.0.0.1:PORT")
        return (
            "The proxy in one process, without Redis, with virtual keys in PostgreSQL and this"
            f" configuration:\n\n```yaml\n{config}```\n\n"
            "A spender is a key of `POST /key/generate` with `max_budget`, and `budget_duration` where"
            " there is a window (`3600s`, in 2 `30s`); the two `rescheduler` settings make expired"
            " windows begin anew within a second. 7a is `/key/delete`, 7b `/key/update`, 8"
            " `/key/block`; what a key has under way then may end, and is in the notes. Requests"
            f" name `max_tokens: {ANSWER_TOKENS}`, so that their cost is known before. The model answers"
            f" after 50 ms, always {PROMPT_TOKENS} and {ANSWER_TOKENS} tokens, ${PRICE / 1_000_000:g}"
            " together. *Paid* is how many chats it answered, *counted* is the key's `total_spend` in"
            " `/key/info`, for which the suite waits up to 45 s.\n\n"
            "Prisma's native query engine is only to be had from a download site, so its WebAssembly"
            " build from npm runs in its place, behind `prisma_front.mjs`, which rewrites queries from"
            " GraphQL into the engine's JSON; the migrations are run with `psql`. LiteLLM is unchanged.\n\n"
            "In 2, a new window begins at the boundary, as documented, so that nearly two fit around "
            "it. In 3, the proxy is stopped in good order (SIGTERM) and started with the right clock "
            "before its books are read. In 4, proxy and engine die at once: this setup counts in "
            "memory and writes to the database every few seconds, so what was spent in between is "
            "forgotten, which shows as *lost*, and can be spent again, which shows as *over*. It was "
            "not tried with Redis. Answers that died with the proxy are not counted as lost."
        )

    def spender(self, limits: Limits, *, fake_clock: bool = False) -> LiteLLMSpender:
        faked = None
        if fake_clock and limits.window_seconds == 3_600:
            faked = clock.FakeClock(self.dir)
            self.down()
            env = {**faked.env, "PYTHONPATH": str(HERE / "faked_python")}
            # A look at the file for each look at the clock would take Python half a minute to start.
            del env["FAKETIME_NO_CACHE"]
            self.up({**env, "FAKETIME_CACHE_DURATION": "1"})
        elif not self.process:
            self.up({})
        return LiteLLMSpender(self, limits, faked)
