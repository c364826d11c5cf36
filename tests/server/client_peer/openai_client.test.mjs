// npm's `openai` against krait serve, by node's own test runner.
import assert from 'node:assert/strict';
import {test} from 'node:test';
import OpenAI from 'openai';

const baseURL = process.env.KRAIT_URL + '/v1';
const client = new OpenAI({baseURL, apiKey: process.env.KRAIT_KEY, maxRetries: 0});
const model = (await client.models.list()).data[0].id;
const prompt = 'Once upon a time there was a fox';
const messages = [{role: 'system', content: 'You tell tales.'}, {role: 'user', content: 'Tell of a fox.'}];

test('models are listed and found', async () => {
  assert.equal((await client.models.retrieve(model)).id, model);
  await assert.rejects(client.models.retrieve('none'), OpenAI.NotFoundError);
});

test('a completion, whole and streamed, is the same text', async () => {
  const request = {model, prompt, max_tokens: 25, temperature: 0};
  const whole = await client.completions.create(request);
  assert.equal(whole.choices[0].finish_reason, 'length');
  assert.equal(whole.usage.completion_tokens, 25);
  assert.ok(whole.choices[0].text.length > 25);
  let text = '';
  let usage = null;
  for await (const part of await client.completions.create(
      {...request, stream: true, stream_options: {include_usage: true}})) {
    text += part.choices[0]?.text ?? '';
    usage = part.usage ?? usage;
  }
  assert.equal(text, whole.choices[0].text);
  assert.deepEqual(
      [usage.prompt_tokens, usage.completion_tokens], [whole.usage.prompt_tokens, whole.usage.completion_tokens]);
});

test('a chat, whole and streamed, is the same text, and that of its prompt', async () => {
  const request = {model, messages, max_tokens: 25, temperature: 0};
  const whole = await client.chat.completions.create(request);
  const {message, finish_reason} = whole.choices[0];
  assert.equal(message.role, 'assistant');
  assert.ok(message.content.length > 0);
  assert.ok(['length', 'stop'].includes(finish_reason));
  const stream = client.chat.completions.stream(request);
  const parts = [];
  stream.on('content', (delta) => parts.push(delta));
  const last = await stream.finalChatCompletion();
  assert.equal(last.choices[0].message.content, message.content);
  assert.equal(parts.join(''), message.content);
  const plain = await client.completions.create({
    model, prompt: 'system: You tell tales.\nuser: Tell of a fox.\nassistant:', max_tokens: 25, temperature: 0,
    stop: ['\nuser:', '\nsystem:', '\nassistant:'],
  });
  assert.equal(plain.choices[0].text, message.content);
});

test('n, seed, logprobs and stop', async () => {
  const request = {model, messages, n: 2, seed: 11, max_tokens: 10, logprobs: true, top_logprobs: 2};
  const [one, two] = [await client.chat.completions.create(request), await client.chat.completions.create(request)];
  assert.equal(one.choices.length, 2);
  assert.notEqual(one.choices[0].message.content, one.choices[1].message.content);
  assert.deepEqual(one.choices.map((c) => c.message.content), two.choices.map((c) => c.message.content));
  const {content} = one.choices[0].logprobs;
  assert.ok(content.length > 0);
  for (const entry of content) {
    assert.equal(entry.top_logprobs.length, 2);
    assert.ok(entry.logprob <= 0);
    assert.ok(entry.top_logprobs[0].logprob >= entry.top_logprobs[1].logprob);
  }
  const bytes = content.flatMap((entry) => entry.bytes);
  assert.ok(Buffer.from(bytes).toString().startsWith(one.choices[0].message.content));
});

const dot = (a, b) => a.reduce((sum, value, i) => sum + value * b[i], 0);

test('embeddings', async () => {
  // Without encoding_format the client asks for base64 and decodes it.
  const input = ['There was a fox.', 'The sea was calm and grey.', 'There was a fox.'];
  const {data, usage} = await client.embeddings.create({model, input});
  const [fox, sea, again] = data.map((one) => one.embedding);
  assert.ok(Math.abs(dot(fox, fox) - 1) < 1e-5);
  assert.deepEqual(fox, again);
  assert.ok(dot(fox, sea) < 0.9999);
  assert.equal(usage.prompt_tokens, usage.total_tokens);
  const single = await client.embeddings.create({model, input: input[1], encoding_format: 'float'});
  assert.ok(Math.abs(dot(single.data[0].embedding, sea) - 1) < 1e-5);
  assert.deepEqual(single.data[0].embedding.map(Math.fround), Array.from(sea));
  await assert.rejects(client.embeddings.create({model, input: ''}), OpenAI.BadRequestError);
});

test('logprobs of a prompt', async () => {
  const {choices} = await client.completions.create({model, prompt, echo: true, logprobs: 1, max_tokens: 1});
  const {tokens, token_logprobs, top_logprobs} = choices[0].logprobs;
  assert.equal(token_logprobs.length, tokens.length);
  assert.equal(token_logprobs[0], null);
  assert.equal(top_logprobs[0], null);
  assert.ok(token_logprobs.slice(1).every((value) => value < 0));
});

test('errors have their classes', async () => {
  const stranger = new OpenAI({baseURL, apiKey: 'sk-stranger', maxRetries: 0});
  await assert.rejects(stranger.models.list(), OpenAI.AuthenticationError);
  await assert.rejects(
      client.chat.completions.create({model, messages, temperature: -1}),
      (error) => error instanceof OpenAI.BadRequestError && error.param === 'temperature' && !!error.requestID);
  await assert.rejects(
      client.chat.completions.create({model: 'other', messages}),
      (error) => error instanceof OpenAI.NotFoundError && error.code === 'model_not_found');
  await assert.rejects(
      client.chat.completions.create({model, messages, tools: [{type: 'web_search'}]}),
      (error) => error instanceof OpenAI.BadRequestError && error.param === 'tools[0].type');
});

test('an abort in the middle of a stream ends it', async () => {
  const stream = await client.completions.create(
      {model, prompt, max_tokens: 60000, stream: true, ignore_eos: true});
  let parts = 0;
  for await (const part of stream) {
    assert.equal(part.choices.length, 1);
    if (++parts === 5) break;  // aborts
  }
  assert.equal(parts, 5);
  assert.ok(stream.controller.signal.aborted);
});

test('many at once', async () => {
  const alone = await client.completions.create({model, prompt, max_tokens: 20, temperature: 0});
  const all = await Promise.all(
      Array.from({length: 16}, () => client.completions.create({model, prompt, max_tokens: 20, temperature: 0})));
  for (const one of all) assert.equal(one.choices[0].text, alone.choices[0].text);
});
