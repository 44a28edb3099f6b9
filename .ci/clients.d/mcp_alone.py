"""The PyPI package mcp, when no node runs: the process that the client starts is the node."""

import asyncio
import json
from decimal import Decimal

from checks import SELLER_DIR, check, equal, finish, tirami
from mcp_talk import talk

with check("mcp alone: is the node where none runs"):
    asyncio.run(talk("auto", "2026-07-28", ["mcp", "--no-local"]))

with check("A earned what B spent, to the millionth"):
    spent = json.loads(tirami("balance", "--json"))["trm_spent"]
    earned = json.loads(tirami("balance", "--json", data_dir=SELLER_DIR))["trm_earned"]
    equal(Decimal(earned), Decimal(spent), "what A earned")
finish()
