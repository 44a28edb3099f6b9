"""The PyPI package mcp over stdio, in both eras of the protocol."""

import asyncio

from checks import check, finish
from mcp_talk import talk

for mode, version in [
    ("auto", "2026-07-28"),
    ("legacy", "2025-11-25"),
    ("2026-07-28", "2026-07-28"),
]:
    with check(f"mcp {mode}: connects, speaks {version}, and its server ends with it"):
        asyncio.run(talk(mode, version, ["mcp"]))
finish()
