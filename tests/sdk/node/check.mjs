// The official openai package against a running server: check.mjs BASE_URL
import assert from "node:assert/strict";
import OpenAI from "openai";

const client = new OpenAI({ baseURL: process.argv[2], apiKey: "unused", maxRetries: 0 });
const sky = { prompt: "What colour is the sky?", max_tokens: 32, temperature: 0 };
const want = {
  parrot: " The sky is blue.",
  "parrot:pirate": " Arr! The sky be blue, matey!",
  shout: " THE SKY IS BLUE!",
};

for (const [model, text] of Object.entries(want)) {
  const c = await client.completions.create({ model, ...sky });
  assert.equal(c.choices[0].text, text);
  assert.equal(c.choices[0].finish_reason, "stop");

  let streamed = "";
  let chunks = 0;
  for await (const chunk of await client.completions.create({ model, stream: true, ...sky })) {
    streamed += chunk.choices[0].text;
    chunks++;
  }
  assert.equal(streamed, text);
  assert.ok(chunks >= c.usage.completion_tokens - 1, "not streamed token by token");
}

const ids = [];
for await (const m of client.models.list()) ids.push(m.id);
assert.equal(ids[0], "parrot");
assert.equal((await client.models.retrieve("parrot:pirate")).parent, "parrot");

await assert.rejects(client.completions.create({ model: "nobody", prompt: "x" }), (e) => e instanceof OpenAI.NotFoundError && e.code === "model_not_found");
await assert.rejects(client.completions.create({ model: "parrot", prompt: "x".repeat(9000) }), (e) => e instanceof OpenAI.BadRequestError && e.code === "context_length_exceeded");

const stream = await client.completions.create({ model: "parrot", prompt: "Count to twenty.", max_tokens: 64, temperature: 0, stream: true });
for await (const _ of stream) break; // leaves: the SDK aborts the request
console.log("ok");
