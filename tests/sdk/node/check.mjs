// The official openai package against running servers: check.mjs OPEN KEYED BUSY
// (see ../python/check.py)
import assert from "node:assert/strict";
import OpenAI from "openai";
import { zodResponseFormat } from "openai/helpers/zod";
import { z } from "zod";

const [open, keyed, busy] = process.argv.slice(2);
const client = new OpenAI({ baseURL: open, apiKey: "unused", maxRetries: 0 });
const question = "What colour is the sky?";
const sky = { prompt: question, max_tokens: 32, temperature: 0 };
const ask = { messages: [{ role: "user", content: question }], max_completion_tokens: 128, temperature: 0 };
const want = {
  parrot: " The sky is blue.",
  "parrot:pirate": " Arr! The sky be blue, matey!",
  shout: " THE SKY IS BLUE!",
};
const tools = [{
  type: "function",
  function: {
    name: "look_up",
    parameters: { type: "object", properties: { of: { enum: ["sky", "sea"] } }, required: ["of"], additionalProperties: false },
  },
}];

const fails = (promise, type, code) => assert.rejects(promise, (e) => e instanceof type && e.code === code);

async function completions() {
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
}

async function chat() {
  const c = await client.chat.completions.create({ model: "parrot", ...ask });
  assert.equal(c.choices[0].message.content.trim(), want.parrot.trim());
  const stream = client.chat.completions.stream({ model: "parrot", ...ask });
  assert.equal(await stream.finalContent(), c.choices[0].message.content);

  const answer = z.object({ topic: z.enum(["colour", "animal"]), certain: z.boolean() });
  const parsed = await client.chat.completions.parse({ model: "parrot", response_format: zodResponseFormat(answer, "answer"), ...ask });
  answer.parse(parsed.choices[0].message.parsed);

  const called = await client.chat.completions.create({ model: "parrot", tools, tool_choice: "required", parallel_tool_calls: false, ...ask });
  const [call] = called.choices[0].message.tool_calls;
  assert.equal(call.function.name, "look_up");
  assert.ok(["sky", "sea"].includes(JSON.parse(call.function.arguments).of));
  const streamed = await client.chat.completions.stream({ model: "parrot", tools, tool_choice: "required", parallel_tool_calls: false, ...ask }).finalMessage();
  assert.equal(streamed.tool_calls[0].function.arguments, call.function.arguments);
}

async function responses() {
  const r = await client.responses.create({ model: "parrot", input: question, temperature: 0, max_output_tokens: 32 });
  assert.equal(r.status, "completed");
  const stream = client.responses.stream({ model: "parrot", input: question, temperature: 0, max_output_tokens: 32 });
  assert.equal((await stream.finalResponse()).output_text, r.output_text);
}

async function models() {
  const ids = [];
  for await (const m of client.models.list()) ids.push(m.id);
  assert.equal(ids[0], "parrot");
  assert.equal((await client.models.retrieve("parrot:pirate")).parent, "parrot");
  await fails(client.models.retrieve("some/body:else"), OpenAI.NotFoundError, "model_not_found");
}

async function embeddings() {
  const base64 = await client.embeddings.create({ model: "parrot", input: question }); // this client asks for base64
  const plain = await client.embeddings.create({ model: "parrot", input: question, encoding_format: "float" });
  assert.ok(base64.data[0].embedding.every((x, i) => Math.abs(x - plain.data[0].embedding[i]) < 2e-3)); // the second has a prefix from the cache: the last bits may differ
}

async function errors() {
  await fails(client.completions.create({ model: "nobody", prompt: "x" }), OpenAI.NotFoundError, "model_not_found");
  await fails(client.completions.create({ model: "parrot", prompt: "x".repeat(9000) }), OpenAI.BadRequestError, "context_length_exceeded");
  const as = (apiKey) => new OpenAI({ baseURL: keyed, apiKey, maxRetries: 0 }).completions.create({ model: "parrot", ...sky });
  await fails(as("sk-wrong"), OpenAI.AuthenticationError, "invalid_api_key");
  await as("sk-good");
  await as("sk-slow");
  await fails(as("sk-slow"), OpenAI.RateLimitError, "rate_limit_exceeded");
}

async function retriesAndLeaving() {
  const impatient = new OpenAI({ baseURL: busy, apiKey: "unused", maxRetries: 2 });
  assert.equal((await impatient.completions.create({ model: "parrot", ...sky })).choices[0].text, want.parrot);
  const stream = await impatient.completions.create({ model: "parrot", prompt: question, n: 8, max_tokens: 500, ignore_eos: true, stream: true });
  for await (const _ of stream) break; // leaves: the client aborts the request
  await impatient.models.list();
}

for (const part of [completions, chat, responses, models, errors, retriesAndLeaving, embeddings]) await part();
console.log("ok");
