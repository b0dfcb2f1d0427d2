"""The openai package: pip install openai. Start the demo with `make run`."""

import os

from openai import OpenAI

client = OpenAI(base_url=os.environ.get("LORIKEET_URL", "http://127.0.0.1:8080") + "/v1", api_key="unused")
question = "What colour is the sky?"

# The model names a base and an adapter.
answer = client.completions.create(model="parrot:pirate", prompt=question, max_tokens=32, temperature=0)
print(answer.choices[0].text)

# A conversation, as it is generated.
messages = [{"role": "user", "content": question}]
for chunk in client.chat.completions.create(model="parrot", messages=messages, max_completion_tokens=32, stream=True):
    print(chunk.choices[0].delta.content or "", end="", flush=True)
print()

# What OpenAI does not have goes into extra_body: two adapters at once, at scales.
loras = [{"name": "pirate", "scale": 0.5}, {"name": "shout", "scale": 0.5}]
answer = client.completions.create(model="parrot", prompt=question, max_tokens=32, extra_body={"lora": loras})
print(answer.choices[0].text)
