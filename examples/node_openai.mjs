// The openai package: npm install openai. Start the demo with `make run`.
import OpenAI from "openai";

const client = new OpenAI({ baseURL: `${process.env.LORIKEET_URL ?? "http://127.0.0.1:8080"}/v1`, apiKey: "unused" });
const question = "What colour is the sky?";

// The model names a base and an adapter. What OpenAI does not have, such as top_k, is added as it is.
const answer = await client.completions.create({ model: "parrot:pirate", prompt: question, max_tokens: 32, temperature: 0, top_k: 40 });
console.log(answer.choices[0].text);

// A conversation, as it is generated.
const messages = [{ role: "user", content: question }];
const stream = await client.chat.completions.create({ model: "parrot", messages, max_completion_tokens: 32, stream: true });
for await (const chunk of stream) process.stdout.write(chunk.choices[0].delta.content ?? "");
console.log();
