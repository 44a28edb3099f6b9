"""One conversation of the PyPI package mcp with tirami-agent over stdio."""

import json
import subprocess
import time
import uuid
from decimal import Decimal

from jsonschema.validators import validator_for
from mcp import Client, StdioServerParameters

from checks import BIN, BUYER_DIR, check, equal, hold, paid

TOOLS = sorted(
    "audit_log balance budget chat freeze history identity models network peers quote receipt"
    " schedule statement verify".split()
)

# How long the client waits for a server whose input ended, before it kills it.
GRACE = 2.0


class Door:
    """A connected client that checks every answer against the schema its tool promises."""

    def __init__(self, client):
        self.client = client
        self.validators = {}

    async def tools(self):
        tools = (await self.client.list_tools()).tools
        for tool in tools:
            for schema in (tool.input_schema, tool.output_schema):
                hold(schema, f"{tool.name} lacks a schema")
                validator_for(schema).check_schema(schema)
            hints = tool.annotations.model_dump(exclude_none=True)
            hold(len(hints) >= 4, f"{tool.name} leaves hints open: {hints}")
            schema = tool.output_schema
            self.validators[tool.name] = validator_for(schema)(schema)
        return tools

    async def call(self, tool, arguments, progress=None):
        result = await self.client.call_tool(tool, arguments, progress_callback=progress)
        self.validators[tool].validate(result.structured_content)
        return result

    async def ask(self, tool, progress=None, **arguments):
        result = await self.call(tool, arguments, progress)
        hold(not result.is_error, f"{tool}: {result.structured_content}")
        equal(json.loads(result.content[0].text), result.structured_content, f"the text of {tool}")
        return result.structured_content

    async def balance(self):
        return Decimal((await self.ask("balance"))["trm_balance"])


async def talk(mode, version, words):
    name = "mcp alone" if len(words) > 1 else f"mcp {mode}"
    server = StdioServerParameters(command=BIN, args=[*words, "--data-dir", BUYER_DIR])
    client = Client(server, mode=mode, read_timeout_seconds=30)
    async with client:
        equal(client.protocol_version, version, "the protocol")
        if mode != "2026-07-28":  # that one does not ask who is there
            equal(client.server_info.name, "tirami", "the server's name")
            hold("TRM" in client.instructions, "the instructions do not speak of TRM")
        await converse(name, Door(client))
        leaving = time.monotonic()
    took = time.monotonic() - leaving
    hold(took < GRACE, f"the server did not end with its input, within {took:.1f} s")


async def converse(name, door):
    with check(f"{name}: lists the fifteen tools, with schemas and hints"):
        equal([tool.name for tool in await door.tools()], TOOLS, "the list of tools")

    with check(f"{name}: what only reads answers as its outputSchema says"):
        for tool in TOOLS:
            if tool in ("chat", "freeze", "quote", "receipt", "verify"):
                continue
            await door.ask(tool)
        await door.ask("quote", prompt="Hello")

    question = {
        "prompt": "Why is the sky blue?",
        "max_trm": "5",
        "idempotency_key": f"clients-{uuid.uuid4()}",
    }
    first = None
    with check(f"{name}: chat is answered by A and paid, with progress on the way"):
        before, told = await door.balance(), []

        async def progress(done, _total, _message):
            told.append(done)

        first = await door.ask("chat", progress, **question)
        cost = paid(first)
        hold(first["text"], "the answer is empty")
        hold(cost <= 5, f"the cost, {cost}, is above max_trm")
        equal(Decimal(first["trm_balance"]), before - cost, "the balance in the answer")
        equal(await door.balance(), before - cost, "the balance")
        hold(told and told == sorted(told), f"progress was {told}")

    with check(f"{name}: the same key again is replayed, with the same receipt and balance"):
        before = await door.balance()
        again = await door.ask("chat", **question)
        equal(again["replayed"], True, "replayed")
        for field in ("text", "receipt", "trm_cost", "provider"):
            equal(again[field], first[field], field)
        equal(await door.balance(), before, "the balance")

    with check(f"{name}: the receipt holds offline"):
        receipt = await door.ask("receipt", receipt=first["receipt"])
        done = subprocess.run(
            [BIN, "verify", "-", "--json"],
            input=json.dumps(receipt), capture_output=True, text=True, timeout=30,
        )
        equal(done.returncode, 0, f"verify: {done.stdout}{done.stderr}: exit code")
        proven = json.loads(done.stdout)["facts"]
        checked = await door.ask("verify", proof=json.dumps(receipt))
        equal(checked["facts"], proven, "what the tool says of the receipt")
        equal(proven["provider"], first["provider"], "the receipt's provider")
        equal(proven["trm_amount"], first["trm_cost"], "the receipt's amount")

    with check(f"{name}: what is refused says why and costs nothing"):
        before = await door.balance()
        for arguments, code in [
            ({"prompt": "Hello", "max_trm": "0.000001"}, "above_max_trm"),
            ({"prompt": "Hello", "max_trm": "-5"}, "invalid_input"),
            ({"prompt": "Hello", "max_tokns": 5}, "invalid_input"),
            ({**question, "prompt": "Another"}, "idempotency_key_reused"),
        ]:
            result = await door.call("chat", arguments)
            equal(result.is_error, True, f"{arguments}: is_error")
            equal(result.structured_content["code"], code, f"{arguments}: code")
        equal(await door.balance(), before, "the balance")
