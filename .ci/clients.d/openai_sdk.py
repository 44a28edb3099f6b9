"""The PyPI package openai against B's HTTP door."""

import uuid
from decimal import Decimal

import openai

from checks import BUYER_TOKEN, BUYER_URL, check, equal, finish, hold, paid


def client(token):
    return openai.OpenAI(base_url=f"{BUYER_URL}/v1", api_key=token, timeout=30)


def texts(chunks):
    return [c.delta.content for chunk in chunks for c in chunk.choices if c.delta.content]


node = client(BUYER_TOKEN)
ask = node.chat.completions.create
question = {
    "model": "sprout",
    "messages": [{"role": "user", "content": "Why is the sky blue?"}],
}

with check("openai: lists the model that A sells"):
    hold("sprout" in [model.id for model in node.models.list()], "sprout is not listed")

with check("openai: a chat that A served says what it cost"):
    answer = ask(**question)
    whole = answer.choices[0].message.content
    hold(whole, "the answer is empty")
    equal(answer.choices[0].finish_reason, "stop", "finish_reason")
    tokens = answer.usage
    equal(tokens.total_tokens, tokens.prompt_tokens + tokens.completion_tokens, "the tokens")
    cost = paid(answer.x_tirami)

with check("openai: streams a chat that A served, and the last chunk has the cost"):
    chunks = list(ask(**question, stream=True))
    pieces = texts(chunks)
    hold(len(pieces) > 1, f"it came in {len(pieces)} pieces")
    equal("".join(pieces), whole, "the text")
    equal(chunks[-1].choices[0].finish_reason, "stop", "finish_reason")
    equal([c for c in chunks[:-1] if "x_tirami" in c.model_extra], [], "x_tirami before the end")
    last = chunks[-1].x_tirami
    equal(paid(last), cost, "the cost of the same answer")
    balance = Decimal(last["trm_balance"])

with check("openai: streams usage too where asked"):
    options = {"include_usage": True}
    last = list(ask(**question, stream=True, stream_options=options))[-1]
    equal(last.choices, [], "choices of the last chunk")
    hold(last.usage.completion_tokens > 1, f"usage: {last.usage}")
    equal(Decimal(last.x_tirami["trm_balance"]), balance - paid(last.x_tirami), "the balance")

with check("openai: the same Idempotency-Key is paid once, whole or streamed"):
    key = {"Idempotency-Key": f"clients-{uuid.uuid4()}"}
    first = ask(**question, extra_headers=key).x_tirami
    second = list(ask(**question, extra_headers=key, stream=True))[-1].x_tirami
    equal((first["replayed"], second["replayed"]), (False, True), "replayed")
    equal(second["receipt"], first["receipt"], "the receipt")
    equal(second["trm_balance"], first["trm_balance"], "the balance")

with check("openai: a wrong token is an AuthenticationError"):
    for call in (
        lambda node: node.models.list(),
        lambda node: node.chat.completions.create(**question),
        lambda node: node.chat.completions.create(**question, stream=True),
    ):
        try:
            call(client("wrong"))
        except openai.AuthenticationError as error:
            equal(error.code, "unauthorized", "the code")
        else:
            raise AssertionError("it was let in")

with check("openai: what is above max_trm is refused, also in a stream"):
    for stream in (False, True):
        try:
            extra = {"x_tirami": {"max_trm": "0.000001"}}
            ask(**question, stream=stream, extra_body=extra)
        except openai.APIStatusError as error:
            equal((error.status_code, error.code), (402, "above_max_trm"), "the refusal")
        else:
            raise AssertionError("it was bought")
finish()
