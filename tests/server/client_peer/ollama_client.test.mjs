// npm's `ollama` against krait serve, by node's own test runner.
import assert from 'node:assert/strict';
import {test} from 'node:test';
import {Ollama} from 'ollama';

const client = new Ollama({
  host: process.env.KRAIT_URL,
  headers: {authorization: `Bearer ${process.env.KRAIT_KEY}`},
});
const model = (await client.list()).models[0].name;
const options = {temperature: 0, num_predict: 20};

test('the model is listed', async () => {
  const {models} = await client.list();
  assert.equal(models.length, 1);
  assert.match(models[0].digest, /^[0-9a-f]{32}$/);
  assert.ok(models[0].size > 0);
});

test('generate, whole and streamed, is the same text', async () => {
  const whole = await client.generate({model, prompt: 'Once upon a time', options});
  assert.ok(whole.done);
  assert.ok(whole.response.length > 20);
  assert.equal(whole.eval_count, 20);
  assert.equal(whole.done_reason, 'length');
  let text = '';
  let last = null;
  for await (const part of await client.generate({model, prompt: 'Once upon a time', options, stream: true})) {
    text += part.response;
    last = part;
  }
  assert.equal(text, whole.response);
  assert.ok(last.done);
  assert.equal(last.eval_count, 20);
});

test('chat, whole and streamed, is the same text', async () => {
  const messages = [{role: 'user', content: 'Tell of a fox.'}];
  const whole = await client.chat({model: `${model}:latest`, messages, options});
  assert.equal(whole.message.role, 'assistant');
  assert.ok(whole.message.content.length > 0);
  let text = '';
  for await (const part of await client.chat({model, messages, options, stream: true})) text += part.message.content;
  assert.equal(text, whole.message.content);
});

const person = {
  type: 'object',
  properties: {name: {type: 'string', maxLength: 12}, age: {type: 'integer', minimum: 0, maximum: 150}},
  required: ['name', 'age'],
  additionalProperties: false,
};
function isPerson(value) {
  assert.deepEqual(Object.keys(value), ['name', 'age']);
  assert.ok(typeof value.name === 'string' && [...value.name].length <= 12);
  assert.ok(Number.isInteger(value.age) && value.age >= 0 && value.age <= 150);
}

test('a format holds the text to it', async () => {
  const request = {model, messages: [{role: 'user', content: 'Who?'}], format: person, options: {num_predict: 200}};
  isPerson(JSON.parse((await client.chat(request)).message.content));
  let text = '';
  for await (const part of await client.chat({...request, stream: true})) text += part.message.content;
  isPerson(JSON.parse(text));
  isPerson(JSON.parse((await client.generate({model, prompt: 'Who?', format: person, options: {num_predict: 200}})).response));
  const any = await client.generate({model, prompt: 'Who?', format: 'json', options: {num_predict: 400, seed: 5}});
  if (any.done_reason === 'stop') assert.equal(typeof JSON.parse(any.response), 'object');
  assert.ok(any.response.startsWith('{'));
  await assert.rejects(client.generate({model, prompt: 'a', format: {type: 'array', uniqueItems: true}}), /uniqueItems/);
});

test('tools are taken, with what came of them', async () => {
  const tools = [{type: 'function', function: {name: 'f', description: 'd', parameters: person}}];
  const reply = await client.chat({
    model, tools, options, messages: [
      {role: 'user', content: 'Who?'},
      {role: 'assistant', content: '', tool_calls: [{function: {name: 'f', arguments: {name: 'a', age: 1}}}]},
      {role: 'tool', tool_name: 'f', content: 'done'}],
  });
  assert.ok(reply.message.content.length > 0 || reply.message.tool_calls.length > 0);
});

test('embed, one and several, and the older embeddings', async () => {
  const dot = (a, b) => a.reduce((sum, value, i) => sum + value * b[i], 0);
  const {embeddings: [fox, sea]} = await client.embed({model, input: ['There was a fox.', 'The sea was calm.']});
  assert.ok(Math.abs(dot(fox, fox) - 1) < 1e-5);
  assert.ok(dot(fox, sea) < 0.9999);
  const {embeddings: [single]} = await client.embed({model, input: 'There was a fox.'});
  assert.deepEqual(single, fox);
  const {embedding} = await client.embeddings({model, prompt: 'There was a fox.'});
  assert.deepEqual(embedding, fox);
  await assert.rejects(client.embed({model: 'other', input: 'a'}), /not served here/);
});

test('errors are told', async () => {
  await assert.rejects(client.generate({model: 'other', prompt: 'a'}), /not served here/);
  await assert.rejects(client.generate({model, prompt: 'a', options: {temperature: -1}}), /temperature/);
});

test('an abort ends a stream', async () => {
  const stream = await client.generate({model, prompt: 'Once', options: {num_predict: -1}, stream: true});
  let parts = 0;
  await assert.rejects(async () => {
    for await (const part of stream) {
      if (++parts === 5) stream.abort();
      assert.ok(parts < 10000 && !part.done);
    }
  }, {name: 'AbortError'});
  assert.ok(parts >= 5);
});
