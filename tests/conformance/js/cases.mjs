// Runs named cases and prints a line of JSON for each: what the case told, or how it failed.
import assert from "node:assert/strict";

export { assert };
export const MODEL = "scripted";
export const NOTICE = "This answer was withheld by this service's safety policy.";
export const URL_ = process.argv[2];
export const PICTURE = process.argv[3];
export const SCHEMA = {
  type: "object",
  properties: { city: { type: "string" }, degrees: { type: "number" } },
  required: ["city", "degrees"],
  additionalProperties: false,
};

export let requests = 0;
export async function counted(...args) {
  requests += 1;
  return fetch(...args);
}

export async function run(cases) {
  for (const [name, test] of Object.entries(cases)) {
    requests = 0;
    let told = { case: name, ok: true };
    try {
      await test();
    } catch (error) {
      told = { case: name, ok: false, detail: `${error.stack}`.slice(0, 2000) };
    }
    process.stdout.write(`${JSON.stringify(told)}\n`);
  }
}

export async function failing(work) {
  try {
    await work();
  } catch (error) {
    return error;
  }
  throw new Error("it did not fail");
}
