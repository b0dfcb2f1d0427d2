"""The official openai package against a running server: check.py BASE_URL"""

import asyncio
import sys

import openai

client = openai.OpenAI(base_url=sys.argv[1], api_key="unused", max_retries=0)
SKY = {"prompt": "What colour is the sky?", "max_tokens": 32, "temperature": 0}
WANT = {
    "parrot": " The sky is blue.",
    "parrot:pirate": " Arr! The sky be blue, matey!",
    "shout": " THE SKY IS BLUE!",
    "parrot:json": ' {"topic": "colour", "answer": "blue"}',
    "parrot:haiku": "\nYou ask about sky,\nthe answer is only blue.\nColours fill the day.",
}


def equal(got, want):
    assert got == want, f"got {got!r}, want {want!r}"


for model, text in WANT.items():
    c = client.completions.create(model=model, **SKY)
    equal((c.choices[0].text, c.choices[0].finish_reason, c.model, c.object), (text, "stop", model, "text_completion"))
    equal(c.usage.total_tokens, c.usage.prompt_tokens + c.usage.completion_tokens)

    chunks = list(client.completions.create(model=model, stream=True, stream_options={"include_usage": True}, **SKY))
    equal("".join(ch.choices[0].text for ch in chunks if ch.choices), text)
    equal([ch.choices[0].finish_reason for ch in chunks if ch.choices][-2:], [None, "stop"])
    assert len(chunks) >= c.usage.completion_tokens, "not streamed token by token"
    equal(chunks[-1].usage.completion_tokens, c.usage.completion_tokens)
    assert all(ch.usage is None for ch in chunks[:-1])

c = client.completions.create(model="parrot", echo=True, logprobs=2, n=2, stop=["blue"], **SKY)
equal([ch.index for ch in c.choices], [0, 1])
for ch in c.choices:
    equal(ch.text, "What colour is the sky? The sky is ")
    lp = ch.logprobs
    assert lp.token_logprobs[0] is None and all(x <= 0 for x in lp.token_logprobs[1:])
    equal([ch.text[a:][: len(t)] for a, t in list(zip(lp.text_offset, lp.tokens))[1:]], lp.tokens[1:])

ids = [m.id for m in client.models.list()]
assert ids[0] == "parrot" and "parrot:pirate" in ids, ids
equal(client.models.retrieve("parrot:pirate").parent, "parrot")

for error, call in {
    openai.NotFoundError: dict(model="nobody", prompt="x"),
    openai.BadRequestError: dict(model="parrot", prompt="x", temperature=3),
}.items():
    try:
        client.completions.create(**call)
    except error as e:
        assert e.code in ("model_not_found", "decimal_above_max_value") and e.param in ("model", "temperature"), e.body
    else:
        raise AssertionError(f"{error.__name__} expected")


async def together():
    a = openai.AsyncOpenAI(base_url=sys.argv[1], api_key="unused", max_retries=0)

    async def read(model):
        return "".join([ch.choices[0].text async for ch in await a.completions.create(model=model, stream=True, **SKY)])

    equal(dict(zip(WANT, await asyncio.gather(*map(read, WANT)))), WANT)


asyncio.run(together())
print("ok")
