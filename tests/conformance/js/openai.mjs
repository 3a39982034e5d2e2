// openai-node against the proxy.
import OpenAI from "openai";
import { zodResponseFormat } from "openai/helpers/zod";
import { z } from "zod";
import { MODEL, NOTICE, PICTURE, SCHEMA, URL_, assert, counted, failing, requests, run } from "./cases.mjs";

const client = new OpenAI({ baseURL: `${URL_}/v1`, apiKey: "x", fetch: counted });
const says = (content) => [{ role: "user", content }];
const chat = (content, more = {}) => client.chat.completions.create({ model: MODEL, messages: says(content), ...more });
const tool = { type: "function", function: { name: "weather", description: "Weather", parameters: SCHEMA } };
const Weather = z.object({ city: z.string(), degrees: z.number() });

async function streamed(content, more = {}) {
  const told = { text: "", finish: null, usage: null, calls: "", name: "", chunks: 0 };
  for await (const chunk of await chat(content, { stream: true, ...more })) {
    told.chunks += 1;
    told.usage = chunk.usage ?? told.usage;
    for (const choice of chunk.choices) {
      told.text += choice.delta.content ?? "";
      told.finish = choice.finish_reason ?? told.finish;
      for (const call of choice.delta.tool_calls ?? []) {
        told.name += call.function.name ?? "";
        told.calls += call.function.arguments ?? "";
      }
    }
  }
  return told;
}

await run({
  async models() {
    const names = [];
    for await (const model of client.models.list()) names.push(model.id);
    assert.deepEqual(names, [MODEL]);
    assert.equal((await client.models.retrieve(MODEL)).id, MODEL);
  },
  async chat() {
    const answer = await chat("hello");
    assert.equal(answer.choices[0].message.content, "All is well, and the weather is fine.");
    assert.equal(answer.choices[0].finish_reason, "stop");
    assert.equal(answer.usage.total_tokens, 8);
    assert.ok(answer._request_id);
  },
  async stream() {
    const told = await streamed("hello", { stream_options: { include_usage: true } });
    assert.equal(told.text, "All is well, and the weather is fine.");
    assert.equal(told.finish, "stop");
    assert.equal(told.usage.total_tokens, 8);
  },
  async helpers_parse() {
    const format = zodResponseFormat(Weather, "weather");
    const answer = await client.chat.completions.parse({ model: MODEL, messages: says("JSON"), response_format: format });
    assert.deepEqual(answer.choices[0].message.parsed, { city: "Rome", degrees: 21 });
  },
  async helpers_stream() {
    const runner = client.chat.completions.stream({ model: MODEL, messages: says("hello") });
    const whole = await runner.finalChatCompletion();
    assert.equal(whole.choices[0].message.content, "All is well, and the weather is fine.");
  },
  async tools() {
    const answer = await chat("TOOL", { tools: [tool] });
    const call = answer.choices[0].message.tool_calls[0];
    assert.deepEqual([call.function.name, JSON.parse(call.function.arguments)], ["weather", { city: "Rome" }]);
    const messages = [...says("TOOL"), answer.choices[0].message, { role: "tool", tool_call_id: call.id, content: "21" }];
    const after = await client.chat.completions.create({ model: MODEL, messages, tools: [tool] });
    assert.ok(after.choices[0].message);
  },
  async tools_stream() {
    const told = await streamed("TOOL", { tools: [tool] });
    assert.deepEqual([told.name, JSON.parse(told.calls)], ["weather", { city: "Rome" }]);
  },
  async images() {
    const parts = [{ type: "text", text: "what?" }, { type: "image_url", image_url: { url: PICTURE, detail: "low" } }];
    assert.ok((await chat(parts)).choices[0].message.content);
  },
  async responses() {
    const answer = await client.responses.create({ model: MODEL, input: "hello", instructions: "Be brief." });
    assert.equal(answer.output_text, "All is well, and the weather is fine.");
    assert.equal(answer.status, "completed");
    assert.equal(answer.instructions, "Be brief.");
  },
  async responses_stream() {
    let text = "";
    let last = null;
    for await (const event of await client.responses.create({ model: MODEL, input: "hello", stream: true })) {
      if (event.type === "response.output_text.delta") text += event.delta;
      last = event;
    }
    assert.equal(text, "All is well, and the weather is fine.");
    assert.equal(last.type, "response.completed");
    assert.equal(last.response.output[0].content[0].text, text);
  },
  async responses_tools() {
    const tools = [{ type: "function", name: "weather", parameters: SCHEMA, strict: true }];
    const answer = await client.responses.create({ model: MODEL, input: "TOOL", tools });
    assert.deepEqual(JSON.parse(answer.output[0].arguments), { city: "Rome" });
  },
  async input_block_is_one_request() {
    const error = await failing(() => chat("open sesame"));
    assert.ok(error instanceof OpenAI.BadRequestError);
    assert.equal(error.code, "content_filter");
    assert.equal(requests, 1);
  },
  async output_block() {
    const answer = await chat("LEAK");
    assert.equal(answer.choices[0].finish_reason, "content_filter");
    assert.equal(answer.choices[0].message.content, NOTICE);
    assert.equal(requests, 1);
  },
  async output_block_stream() {
    const told = await streamed("LEAK");
    assert.equal(told.finish, "content_filter");
    assert.ok(told.text.endsWith(NOTICE));
    assert.ok(!told.text.includes("heron"));
  },
  async output_block_parsed_raises() {
    const format = zodResponseFormat(Weather, "weather");
    const work = () => client.chat.completions.parse({ model: MODEL, messages: says("LEAK"), response_format: format });
    assert.equal((await failing(work)).constructor.name, "ContentFilterFinishReasonError");
  },
  async responses_block() {
    const answer = await client.responses.create({ model: MODEL, input: "LEAK" });
    assert.deepEqual([answer.status, answer.incomplete_details.reason], ["incomplete", "content_filter"]);
    assert.equal(answer.output_text, NOTICE);
  },
  async busy_is_retried() {
    const error = await failing(() => chat("BUSY"));
    assert.equal(error.status, 503);
    assert.equal(requests, 3);
  },
  async wrong_field_is_named() {
    const error = await failing(() => chat("hello", { temperature: 9 }));
    assert.deepEqual([error.status, error.param, requests], [400, "temperature", 1]);
  },
  async fault_in_a_stream_is_raised() {
    const error = await failing(() => streamed("BROKEN"));
    assert.ok(error instanceof OpenAI.APIError);
  },
  async hang_up() {
    const stream = await chat("ENDLESS", { stream: true });
    for await (const _ of stream) break;
    stream.controller.abort();
  },
});
