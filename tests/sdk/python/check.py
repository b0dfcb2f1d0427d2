"""The official openai package against running servers: check.py OPEN KEYED BUSY

OPEN serves everyone, KEYED wants a key, BUSY refuses the first request and lists models
only after a client has left a stream."""

import asyncio
import json
import sys
from typing import Literal

import openai
import pydantic

OPEN, KEYED, BUSY = sys.argv[1:]
client = openai.OpenAI(base_url=OPEN, api_key="unused", max_retries=0)
QUESTION = "What colour is the sky?"
SKY = {"prompt": QUESTION, "max_tokens": 32, "temperature": 0}
ASK = {"messages": [{"role": "user", "content": QUESTION}], "max_completion_tokens": 32, "temperature": 0}
WANT = {
    "parrot": " The sky is blue.",
    "parrot:pirate": " Arr! The sky be blue, matey!",
    "shout": " THE SKY IS BLUE!",
    "parrot:json": ' {"topic": "colour", "answer": "blue"}',
    "parrot:haiku": "\nYou ask about sky,\nthe answer is only blue.\nColours fill the day.",
}


class Answer(pydantic.BaseModel):
    topic: Literal["colour", "animal"]
    certain: bool


TOOL = {
    "type": "function",
    "function": {
        "name": "look_up",
        "parameters": {"type": "object", "properties": {"of": {"enum": ["sky", "sea"]}}, "required": ["of"], "additionalProperties": False},
    },
}


def equal(got, want):
    assert got == want, f"got {got!r}, want {want!r}"


def fails(error, code, call, **members):
    try:
        call(**members)
    except error as e:
        equal((type(e), e.code), (error, code))
        return e
    raise AssertionError(f"{error.__name__} expected")


def completions():
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
        equal(ch.text, QUESTION + " The sky is ")
        lp = ch.logprobs
        assert lp.token_logprobs[0] is None and all(x <= 0 for x in lp.token_logprobs[1:])
        equal([ch.text[a:][: len(t)] for a, t in list(zip(lp.text_offset, lp.tokens))[1:]], lp.tokens[1:])


def chat():
    for model in WANT:
        c = client.chat.completions.create(model=model, **ASK)
        m = c.choices[0].message
        equal((m.role, c.object, c.choices[0].finish_reason, m.tool_calls), ("assistant", "chat.completion", "stop", None))
        equal(m.content.strip(), WANT[model].strip())
        with client.chat.completions.stream(model=model, stream_options={"include_usage": True}, **ASK) as stream:
            deltas = [e.delta for e in stream if e.type == "content.delta"]
            whole = stream.get_final_completion()
        equal("".join(deltas), m.content)
        equal((whole.choices[0].message.content, whole.usage.completion_tokens), (m.content, c.usage.completion_tokens))

    c = client.chat.completions.create(model="parrot", logprobs=True, top_logprobs=2, **ASK)
    tokens = c.choices[0].logprobs.content
    equal(b"".join(bytes(t.bytes) for t in tokens).decode(), c.choices[0].message.content)
    assert all(len(t.top_logprobs) == 2 and t.logprob <= 0 for t in tokens)

    parsed = client.chat.completions.parse(model="parrot", response_format=Answer, **ASK).choices[0].message.parsed
    assert isinstance(parsed, Answer), parsed


def tools():
    c = client.chat.completions.create(model="parrot", tools=[TOOL], tool_choice="required", parallel_tool_calls=False, **{**ASK, "max_completion_tokens": 128})
    (call,) = c.choices[0].message.tool_calls
    equal((c.choices[0].finish_reason, call.type, call.function.name), ("tool_calls", "function", "look_up"))
    assert json.loads(call.function.arguments)["of"] in ("sky", "sea")
    streamed = ""
    for chunk in client.chat.completions.create(model="parrot", tools=[TOOL], tool_choice="required", parallel_tool_calls=False, stream=True, **{**ASK, "max_completion_tokens": 128}):
        for piece in chunk.choices[0].delta.tool_calls or []:
            equal(piece.index, 0)
            streamed += piece.function.arguments or ""
    equal(streamed, call.function.arguments)
    answered = ASK["messages"] + [c.choices[0].message, {"role": "tool", "tool_call_id": call.id, "content": "blue"}]
    assert client.chat.completions.create(model="parrot", tools=[TOOL], tool_choice="none", **{**ASK, "messages": answered}).choices[0].message.content is not None


def responses():
    r = client.responses.create(model="parrot", input=QUESTION, max_output_tokens=32, temperature=0)
    equal(r.status, "completed")
    equal(r.output_text, client.chat.completions.create(model="parrot", **ASK).choices[0].message.content)
    events = list(client.responses.create(model="parrot", input=QUESTION, max_output_tokens=32, temperature=0, stream=True))
    equal((events[0].type, events[-1].type), ("response.created", "response.completed"))
    equal([e.sequence_number for e in events], list(range(len(events))))
    equal("".join(e.delta for e in events if e.type == "response.output_text.delta"), r.output_text)
    parsed = client.responses.parse(model="parrot", input=QUESTION, text_format=Answer, max_output_tokens=64, temperature=0)
    assert isinstance(parsed.output_parsed, Answer), parsed


def models():
    ids = [m.id for m in client.models.list()]
    assert ids[0] == "parrot" and "parrot:pirate" in ids, ids
    equal(client.models.retrieve("parrot:pirate").parent, "parrot")
    fails(openai.NotFoundError, "model_not_found", client.models.retrieve, model="some/body:else")


def embeddings():
    texts = [QUESTION, "What is it?"]
    base64 = client.embeddings.create(model="parrot", input=texts)  # this client asks for base64
    plain = client.embeddings.create(model="parrot", input=texts, encoding_format="float")
    equal([d.index for d in base64.data], [0, 1])
    for a, b in zip(base64.data, plain.data):
        # computed twice, the second time with a prefix from the cache: the last bits may differ
        assert max(abs(x - y) for x, y in zip(a.embedding, b.embedding)) < 2e-3
        assert abs(sum(x * x for x in a.embedding) - 1) < 1e-4, "not normalized"
    adapted = client.embeddings.create(model="parrot:pirate", input=texts[0])
    assert adapted.data[0].embedding != base64.data[0].embedding, "the adapter changes nothing"


def errors():
    fails(openai.NotFoundError, "model_not_found", client.completions.create, model="nobody", prompt="x")
    fails(openai.NotFoundError, "model_not_found", client.chat.completions.create, model="nobody", messages=ASK["messages"])
    e = fails(openai.BadRequestError, "decimal_above_max_value", client.completions.create, model="parrot", prompt="x", temperature=3)
    equal(e.param, "temperature")
    keyed = openai.OpenAI(base_url=KEYED, api_key="sk-wrong", max_retries=0)
    fails(openai.AuthenticationError, "invalid_api_key", keyed.completions.create, model="parrot", **SKY)
    assert keyed.with_options(api_key="sk-good").completions.create(model="parrot", **SKY).choices[0].text
    slow = keyed.with_options(api_key="sk-slow")
    slow.completions.create(model="parrot", **SKY)
    e = fails(openai.RateLimitError, "rate_limit_exceeded", slow.completions.create, model="parrot", **SKY)
    assert int(e.response.headers["retry-after"]) >= 1 and int(e.response.headers["retry-after-ms"]) > 0


def retries_and_leaving():
    busy = openai.OpenAI(base_url=BUSY, api_key="unused", max_retries=2)
    equal(busy.completions.create(model="parrot", **SKY).choices[0].text, WANT["parrot"])
    stream = busy.completions.create(model="parrot", prompt=QUESTION, n=8, max_tokens=500, stream=True, extra_body={"ignore_eos": True})
    next(stream)
    stream.close()
    busy.models.list()


async def together():
    a = openai.AsyncOpenAI(base_url=OPEN, api_key="unused", max_retries=0)

    async def read(model):
        return "".join([ch.choices[0].text async for ch in await a.completions.create(model=model, stream=True, **SKY)])

    equal(dict(zip(WANT, await asyncio.gather(*map(read, WANT)))), WANT)


for part in (completions, chat, tools, responses, models, errors, retries_and_leaving, embeddings):
    part()
asyncio.run(together())
print("ok")
