"""An agent that buys its answers: it asks, streams, says what each cost, and keeps to a budget.

    pip install openai
    python examples/agent.py --budget 2 "Why is the sky blue?" "What is a budget?"

The node is found at TIRAMI_URL, or where `tirami-agent up` listens by default. The token is
TIRAMI_TOKEN, or what `tirami-agent token show` says. Ends with code 3 when it was too dear.
"""

import argparse
import os
import subprocess
import sys
import uuid
from decimal import Decimal

import openai

# With any of these, what was asked for is too dear; nothing was spent.
TOO_DEAR = ("over_budget", "above_max_trm", "insufficient_funds")


def connect():
    url = os.environ.get("TIRAMI_URL", "http://127.0.0.1:8474")
    token = os.environ.get("TIRAMI_TOKEN")
    if not token:
        show = ["tirami-agent", "token", "show"]
        token = subprocess.run(show, check=True, capture_output=True, text=True).stdout.strip()
    return openai.OpenAI(base_url=f"{url}/v1", api_key=token)


def ask(node, question, max_trm, max_tokens):
    """Prints the answer as it comes. Returns what it cost and who was paid."""
    # The key makes every repetition safe, openai's own included: it is paid once.
    purchase = {"max_trm": str(max_trm), "idempotency_key": str(uuid.uuid4())}
    chunks = node.chat.completions.create(
        model="sprout",
        messages=[{"role": "user", "content": question}],
        max_tokens=max_tokens,
        stream=True,
        extra_body={"x_tirami": purchase},
    )
    bill = {}
    for chunk in chunks:
        for choice in chunk.choices:
            print(choice.delta.content or "", end="", flush=True)
        bill = chunk.model_extra.get("x_tirami", bill)
    print()
    return bill


def buy(node, question, left):
    """Asks for a long answer and, where that is too dear, for as much as fits."""
    try:
        return ask(node, question, left, max_tokens=200)
    except openai.APIStatusError as error:
        if error.code not in TOO_DEAR:
            raise
        print(f"  refused, {error.code}: {error.body['message']}")
        print("  asking for less: as many tokens as the limits allow")
        return ask(node, question, left, max_tokens=None)


def main():
    parser = argparse.ArgumentParser(description="Buys answers within a budget.")
    parser.add_argument("--budget", type=Decimal, default=Decimal(2), help="most to spend, in TRM")
    parser.add_argument("question", nargs="+")
    given = parser.parse_args()

    node, spent, code = connect(), Decimal(0), 0
    for question in given.question:
        print(f"> {question}")
        try:
            bill = buy(node, question, given.budget - spent)
        except openai.APIError as error:
            print(f"  stopped, {error.code}: {error.message}")
            code = 3 if error.code in TOO_DEAR else 1
            break
        spent += Decimal(bill["trm_cost"])
        if bill["local"]:
            print("  done on this node, for nothing")
        else:
            print(f"  {bill['trm_cost']} TRM to {bill['provider'][:10]}, receipt {bill['receipt']}")
        if bill["capped_by"]:
            print(f"  cut short by {bill['capped_by']}")
    print(f"spent {spent} of {given.budget} TRM")
    return code


if __name__ == "__main__":
    sys.exit(main())
