// Vercel's ai-sdk against the proxy.
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { APICallError, RetryError, Output, generateText, jsonSchema, streamText, tool } from "ai";
import { MODEL, NOTICE, PICTURE, SCHEMA, URL_, assert, counted, failing, requests, run } from "./cases.mjs";

globalThis.AI_SDK_LOG_WARNINGS = false;
const provider = createOpenAICompatible({
  name: "proxy", baseURL: `${URL_}/v1`, apiKey: "x", fetch: counted, includeUsage: true, supportsStructuredOutputs: true,
});
const model = provider(MODEL);
const schema = jsonSchema(SCHEMA);
const tools = { weather: tool({ description: "Weather", inputSchema: schema }) };

async function streamed(prompt, more = {}) {
  const errors = [];
  const answer = streamText({ model, prompt, onError: ({ error }) => errors.push(error), ...more });
  let text = "";
  for await (const piece of answer.textStream) text += piece;
  return { text, errors, answer };
}

await run({
  async chat() {
    const answer = await generateText({ model, prompt: "hello", system: "Be brief." });
    assert.equal(answer.text, "All is well, and the weather is fine.");
    assert.equal(answer.finishReason, "stop");
    assert.equal(answer.usage.totalTokens, 8);
  },
  async stream() {
    const { text, answer } = await streamed("hello");
    assert.equal(text, "All is well, and the weather is fine.");
    assert.equal(await answer.finishReason, "stop");
    assert.equal((await answer.usage).totalTokens, 8);
  },
  async reasoning() {
    const answer = await generateText({ model, prompt: "THINK" });
    assert.equal(answer.reasoningText, "Let me think.");
    assert.equal(answer.text, "Done.");
  },
  async helpers_parse() {
    const answer = await generateText({ model, prompt: "JSON", output: Output.object({ schema }) });
    assert.deepEqual(answer.output, { city: "Rome", degrees: 21 });
  },
  async tools() {
    const answer = await generateText({ model, prompt: "TOOL", tools });
    assert.deepEqual([answer.toolCalls[0].toolName, answer.toolCalls[0].input.city], ["weather", "Rome"]);
  },
  async tools_stream() {
    const { answer } = await streamed("TOOL", { tools });
    assert.equal((await answer.toolCalls)[0].input.city, "Rome");
  },
  async images() {
    const content = [{ type: "text", text: "what?" }, { type: "image", image: PICTURE }];
    assert.ok((await generateText({ model, messages: [{ role: "user", content }] })).text);
  },
  async input_block_is_one_request() {
    const error = await failing(() => generateText({ model, prompt: "open sesame" }));
    assert.ok(APICallError.isInstance(error));
    assert.deepEqual([error.statusCode, error.isRetryable, requests], [400, false, 1]);
    assert.equal(error.data.error.code, "content_filter");
  },
  async output_block() {
    const answer = await generateText({ model, prompt: "LEAK" });
    assert.deepEqual([answer.finishReason, answer.text], ["content-filter", NOTICE]);
    assert.equal(requests, 1);
  },
  async output_block_stream() {
    const { text, answer } = await streamed("LEAK");
    assert.equal(await answer.finishReason, "content-filter");
    assert.ok(text.endsWith(NOTICE));
    assert.ok(!text.includes("heron"));
  },
  async busy_is_retried() {
    const error = await failing(() => generateText({ model, prompt: "BUSY" }));
    assert.ok(RetryError.isInstance(error));
    assert.equal(error.lastError.statusCode, 503);
    assert.equal(requests, 3);
  },
  async fault_in_a_stream_is_raised() {
    const { errors, answer } = await streamed("BROKEN");
    assert.equal(errors.length, 1);
    assert.equal(await answer.finishReason, "error");
  },
  async hang_up() {
    const control = new AbortController();
    const { textStream } = streamText({ model, prompt: "ENDLESS", abortSignal: control.signal, onError() {} });
    for await (const _ of textStream) {
      control.abort();
      break;
    }
  },
});
process.exit(0);
