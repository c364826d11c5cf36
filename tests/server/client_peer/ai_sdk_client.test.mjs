// npm's `ai` with @ai-sdk/openai-compatible against krait serve.
import assert from 'node:assert/strict';
import {test} from 'node:test';
import {createOpenAICompatible} from '@ai-sdk/openai-compatible';
import {generateObject, generateText, Output, streamObject, streamText, tool} from 'ai';
import {z} from 'zod';

const baseURL = process.env.KRAIT_URL + '/v1';
const apiKey = process.env.KRAIT_KEY;
const listed = await (await fetch(baseURL + '/models', {headers: {authorization: `Bearer ${apiKey}`}})).json();
const name = listed.data[0].id;
const krait = createOpenAICompatible({name: 'krait', baseURL, apiKey, supportsStructuredOutputs: true, includeUsage: true});
const model = krait(name);
const prompt = 'Tell of a fox.';
const person = z.object({name: z.string().max(12), age: z.number().int().min(0).max(150)});
const settings = {model, prompt, maxRetries: 0};

test('a text, whole and streamed, is the same', async () => {
  const request = {...settings, temperature: 0, maxOutputTokens: 20};
  const whole = await generateText(request);
  assert.ok(whole.text.length > 0);
  assert.equal(whole.usage.outputTokens, 20);
  assert.equal(whole.finishReason, 'length');
  const stream = streamText(request);
  let text = '';
  for await (const piece of stream.textStream) text += piece;
  assert.equal(text, whole.text);
  assert.equal((await stream.usage).outputTokens, 20);
});

test('an object fits its schema, whole and streamed', async () => {
  const {object} = await generateObject({...settings, schema: person, maxOutputTokens: 400});
  assert.deepEqual(Object.keys(object).sort(), ['age', 'name']);
  person.parse(object);
  const stream = streamObject({...settings, schema: person, maxOutputTokens: 400});
  let partial = null;
  for await (partial of stream.partialObjectStream);
  person.parse(await stream.object);
  assert.deepEqual(partial, await stream.object);
  const {output} = await generateText({...settings, maxOutputTokens: 400, output: Output.object({schema: person})});
  person.parse(output);
});

test('a call reaches its function with arguments that fit', async () => {
  const seen = [];
  const tools = {greet: tool({description: 'Greets', inputSchema: person, execute: async (input) => {
    seen.push(input);
    return 'hello';
  }})};
  const request = {...settings, tools, toolChoice: 'required', maxOutputTokens: 400,
                   providerOptions: {krait: {parallel_tool_calls: false}}};
  const {toolCalls, toolResults, finishReason} = await generateText(request);
  assert.equal(finishReason, 'tool-calls');
  assert.ok(toolCalls.length >= 1);
  assert.equal(toolCalls[0].toolName, 'greet');
  assert.equal(toolResults[0].output, 'hello');
  seen.forEach((input) => person.parse(input));
  seen.length = 0;
  const stream = streamText(request);
  const types = new Set();
  for await (const part of stream.fullStream) types.add(part.type);
  for (const type of ['tool-input-start', 'tool-input-delta', 'tool-call', 'tool-result']) assert.ok(types.has(type), type);
  assert.ok(seen.length >= 1);
  seen.forEach((input) => person.parse(input));
});

test('errors are told', async () => {
  await assert.rejects(generateText({...settings, model: krait('other')}), /not served here/);
  await assert.rejects(generateText({...settings, temperature: -1}), /temperature/);
});

test('an abort ends a stream', async () => {
  const abort = new AbortController();
  const stream = streamText({...settings, maxOutputTokens: 60000, abortSignal: abort.signal,
                             providerOptions: {krait: {ignore_eos: true}}});
  let pieces = 0;
  for await (const part of stream.fullStream) {
    if (part.type === 'text-delta' && ++pieces === 5) abort.abort();
    assert.ok(part.type !== 'finish' || pieces < 10000);
  }
  assert.ok(pieces >= 5);
});
