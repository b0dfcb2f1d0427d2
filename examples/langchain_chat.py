"""LangChain: pip install langchain-openai. Start the demo with `make run`."""

import os

from langchain_openai import ChatOpenAI

url = os.environ.get("LORIKEET_URL", "http://127.0.0.1:8080") + "/v1"

# Each adapter is a model of its own.
for model in "parrot", "parrot:pirate":
    chat = ChatOpenAI(base_url=url, api_key="unused", model=model, temperature=0, max_completion_tokens=32)
    print(model, "says", chat.invoke("What colour is the sky?").content)
    for chunk in chat.stream("What colour is the sky?"):
        print(chunk.content, end="", flush=True)
    print()
