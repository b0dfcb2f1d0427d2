"""LiteLLM: pip install litellm. Start the demo with `make run`.

The prefix hosted_vllm/ stands for a server that speaks OpenAI's API and more, as this one
does; fields that OpenAI does not have pass through."""

import os

import litellm

url = os.environ.get("LORIKEET_URL", "http://127.0.0.1:8080") + "/v1"
messages = [{"role": "user", "content": "What colour is the sky?"}]

for model in "parrot", "parrot:pirate":
    answer = litellm.completion(model="hosted_vllm/" + model, api_base=url, api_key="unused", messages=messages, temperature=0, max_tokens=32, top_k=40)
    print(model, "says", answer.choices[0].message.content)

for chunk in litellm.completion(model="hosted_vllm/parrot", api_base=url, api_key="unused", messages=messages, max_tokens=32, stream=True):
    print(chunk.choices[0].delta.content or "", end="", flush=True)
print()
