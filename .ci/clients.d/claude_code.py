"""Claude Code, in a home of its own and without an account: it starts our server and connects."""

import json
import os
import shutil
import subprocess
from pathlib import Path

from checks import BIN, BUYER_DIR, CLAUDE, REPOSITORY, check, equal, finish, hold, paid
from scripted_model import ScriptedModel

home = Path(os.environ["HOME"])
quiet = {"DISABLE_AUTOUPDATER": "1", "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1"}


def claude(where, *words, **env):
    where.mkdir(exist_ok=True)
    done = subprocess.run(
        [CLAUDE, *words], cwd=where, env={**os.environ, **quiet, **env},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=50,
    )
    said = done.stdout + done.stderr
    hold(done.returncode == 0, f"claude {' '.join(words)}: exit code {done.returncode}: {said}")
    return said


def connected(said):
    lines = [line for line in said.splitlines() if line.startswith("tirami:")]
    hold(len(lines) == 1 and "Connected" in lines[0], said)


with check("Claude Code: 'claude mcp add', then 'claude mcp list' says Connected"):
    added = home / "added"
    claude(added, "mcp", "add", "tirami", "--", BIN, "mcp", "--data-dir", BUYER_DIR)
    connected(claude(added, "mcp", "list"))

with check("Claude Code: examples/.mcp.json in a project, approved, is Connected"):
    project = home / "project"
    project.mkdir()
    shutil.copy(Path(REPOSITORY, "examples", ".mcp.json"), project)
    # What a person approves when Claude Code first sees the file.
    (home / ".claude").mkdir(exist_ok=True)
    (home / ".claude" / "settings.json").write_text('{"enabledMcpjsonServers": ["tirami"]}')
    connected(claude(project, "mcp", "list", TIRAMI_DATA_DIR=BUYER_DIR))

with check("Claude Code: calls chat, and shows its model the answer that A served, with the cost"):
    question = {"prompt": "Hello!", "max_trm": "2", "idempotency_key": "claude-code"}
    model = ScriptedModel([("mcp__tirami__chat", question), ("mcp__tirami__balance", {})])
    words = ["-p", "go", "--allowedTools", "mcp__tirami", "--output-format", "json"]
    # The key is a placeholder: the only model it could reach is the one above.
    env = {"ANTHROPIC_BASE_URL": model.url, "ANTHROPIC_API_KEY": "placeholder"}
    said = json.loads(claude(added, *words, **env))
    equal(said["result"], "DONE", f"the result in {said}")
    hold(len(model.results) == 2, f"the model was shown {model.results}")
    answer, balance = (json.loads(result["content"]) for result in model.results)
    paid(answer)
    hold(answer["text"], "the answer is empty")
    equal(balance["trm_balance"], answer["trm_balance"], "the balance")
finish()
