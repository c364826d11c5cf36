// /v1/responses by npm's `openai`.
import assert from 'node:assert/strict';
import {test} from 'node:test';
import OpenAI from 'openai';

const client = new OpenAI({baseURL: process.env.KRAIT_URL + '/v1', apiKey: process.env.KRAIT_KEY, maxRetries: 0});
const model = (await client.models.list()).data[0].id;
const request = {model, input: 'Tell of a fox.', max_output_tokens: 20, temperature: 0};
const parameters = {type: 'object', properties: {n: {type: 'integer', minimum: 0, maximum: 9}}, required: ['n'],
                    additionalProperties: false};

test('a response, whole and streamed, is the same text', async () => {
  const whole = await client.responses.create(request);
  assert.equal(whole.object, 'response');
  assert.ok(whole.output_text.length > 0);
  assert.equal(whole.usage.output_tokens, 20);
  assert.equal(whole.status, 'incomplete');
  assert.equal(whole.incomplete_details.reason, 'max_output_tokens');
  const stream = client.responses.stream(request);
  const types = [];
  let text = '';
  let number = 0;
  for await (const event of stream) {
    types.push(event.type);
    assert.equal(event.sequence_number, number++);
    if (event.type === 'response.output_text.delta') text += event.delta;
  }
  assert.equal(text, whole.output_text);
  assert.equal(types[0], 'response.created');
  assert.equal(types.at(-1), 'response.incomplete');
  const chat = await client.chat.completions.create(
      {model, messages: [{role: 'user', content: request.input}], max_tokens: 20, temperature: 0});
  assert.equal(chat.choices[0].message.content, whole.output_text);
});

test('a response is found, gone on from, and dropped', async () => {
  const first = await client.responses.create(request);
  assert.equal((await client.responses.retrieve(first.id)).output_text, first.output_text);
  const second = await client.responses.create({...request, input: 'And then?', previous_response_id: first.id});
  assert.equal(second.previous_response_id, first.id);
  // All but the new is found in the store of states, but for the last token that was drawn.
  const known = first.usage.input_tokens + first.usage.output_tokens;
  assert.ok(second.usage.input_tokens_details.cached_tokens >= known - 1);
  assert.ok(second.usage.input_tokens < known + 20);
  await client.responses.delete(first.id);
  await assert.rejects(client.responses.retrieve(first.id), OpenAI.NotFoundError);
  await assert.rejects(client.responses.create({...request, previous_response_id: first.id}),
                       (error) => error.code === 'previous_response_not_found');
  const unstored = await client.responses.create({...request, store: false});
  await assert.rejects(client.responses.retrieve(unstored.id), OpenAI.NotFoundError);
});

test('other instructions are told anew', async () => {
  const first = await client.responses.create({...request, instructions: 'Be brief.'});
  const second = await client.responses.create({...request, instructions: 'Sing.', previous_response_id: first.id});
  const chat = await client.chat.completions.create({model, max_tokens: 20, temperature: 0, messages: [
    {role: 'system', content: 'Sing.'}, {role: 'user', content: request.input},
    {role: 'assistant', content: first.output_text}, {role: 'user', content: request.input}]});
  assert.equal(second.output_text, chat.choices[0].message.content);
});

test('the state behind an answer is kept where it is asked for', async () => {
  const first = await client.responses.create(request);
  const chat = await client.chat.completions.create(
      {model, messages: [{role: 'user', content: 'Hi'}], max_tokens: 5, temperature: 0, store: true});
  for (const [id, usage] of [[first.id, first.usage], [chat.id, chat.usage]]) {
    const state = await client.post('/states', {body: {response_id: id}});
    assert.equal(state.position, usage.total_tokens);
  }
  await assert.rejects(client.post('/states', {body: {response_id: 'resp_none'}}), OpenAI.NotFoundError);
});

test('a schema and calls of functions', async () => {
  const shaped = await client.responses.create(
      {...request, temperature: 1, max_output_tokens: 100,
       text: {format: {type: 'json_schema', name: 'n', schema: parameters}}});
  assert.equal(shaped.status, 'completed');
  assert.deepEqual(Object.keys(JSON.parse(shaped.output_text)), ['n']);
  const call = {...request, temperature: 1, max_output_tokens: 200, tool_choice: 'required', parallel_tool_calls: false,
                tools: [{type: 'function', name: 'count', parameters, strict: true}]};
  const whole = await client.responses.create(call);
  assert.equal(whole.output.length, 1);
  assert.equal(whole.output[0].type, 'function_call');
  assert.ok(Number.isInteger(JSON.parse(whole.output[0].arguments).n));
  const stream = client.responses.stream(call);
  let pieces = '';
  stream.on('response.function_call_arguments.delta', (event) => pieces += event.delta);
  const last = await stream.finalResponse();
  assert.equal(last.output[0].arguments, pieces);
  assert.ok(Number.isInteger(JSON.parse(pieces).n));
  const after = await client.responses.create({
    ...call, tool_choice: 'auto', max_output_tokens: 8, previous_response_id: whole.id,
    input: [{type: 'function_call_output', call_id: whole.output[0].call_id, output: '3'}],
  });
  assert.equal(after.output[0].type, 'message');
});

test('what is not supported is refused by name', async () => {
  const refused = (body, param, words) => assert.rejects(
      client.responses.create({...request, ...body}),
      (error) => error instanceof OpenAI.BadRequestError && error.param === param && words.test(error.message));
  await refused({tools: [{type: 'web_search'}]}, 'tools[0].type', /web_search/);
  await refused({background: true}, 'background', /not supported/);
  await refused({input: [{type: 'item_reference', id: 'x'}]}, 'input[0].type', /item_reference/);
});

test('an abort ends a stream', async () => {
  const stream = await client.responses.create({...request, max_output_tokens: 60000, ignore_eos: true, stream: true});
  let events = 0;
  for await (const event of stream) {
    assert.ok(event.type.startsWith('response.'));
    if (++events === 10) break;
  }
  assert.ok(stream.controller.signal.aborted);
});
