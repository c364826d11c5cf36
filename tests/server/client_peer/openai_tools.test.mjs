// Tools and structured output by npm's `openai`: what comes back parses, and fits what was asked for.
import assert from 'node:assert/strict';
import {test} from 'node:test';
import OpenAI from 'openai';
import {zodResponseFormat} from 'openai/helpers/zod';
import {z} from 'zod';

const client = new OpenAI({baseURL: process.env.KRAIT_URL + '/v1', apiKey: process.env.KRAIT_KEY, maxRetries: 0});
const model = (await client.models.list()).data[0].id;
const messages = [{role: 'user', content: 'What is the weather in Rome?'}];
const Weather = z.object({city: z.string().max(12), days: z.number().int().min(1).max(9)}).strict();
const parameters = {
  type: 'object',
  properties: {city: {type: 'string', maxLength: 12}, days: {type: 'integer', minimum: 1, maximum: 9}},
  required: ['city', 'days'],
  additionalProperties: false,
};
const tools = [
  {type: 'function', function: {name: 'weather', description: 'The weather of a city', parameters}},
  {type: 'function', function: {name: 'tide', parameters: {...parameters, properties: {
    ...parameters.properties, port: {enum: ['Ostia', 'Bari']}}, required: ['port']}}},
];
const Tide = z.object({city: z.string().optional(), days: z.number().optional(), port: z.enum(['Ostia', 'Bari'])}).strict();
const request = {model, messages, tools, max_tokens: 400, parallel_tool_calls: false};

function check(call) {
  assert.equal(call.type, 'function');
  assert.match(call.id, /^[a-z0-9]{9}$/);
  const argumentsOf = JSON.parse(call.function.arguments);
  ({weather: Weather, tide: Tide})[call.function.name].parse(argumentsOf);
}

test('a required call is one, and its arguments fit', async () => {
  for (const seed of [1, 2, 3]) {
    const {choices} = await client.chat.completions.create({...request, seed, tool_choice: 'required'});
    assert.equal(choices[0].finish_reason, 'tool_calls');
    assert.equal(choices[0].message.content, null);
    assert.equal(choices[0].message.tool_calls.length, 1);
    check(choices[0].message.tool_calls[0]);
  }
});

test('a named call is of that function', async () => {
  const {choices} = await client.chat.completions.create(
      {...request, tool_choice: {type: 'function', function: {name: 'tide'}}});
  assert.equal(choices[0].message.tool_calls[0].function.name, 'tide');
  check(choices[0].message.tool_calls[0]);
});

test('a streamed call has its name first and its arguments in pieces', async () => {
  const stream = client.chat.completions.stream({...request, seed: 4, tool_choice: 'required'});
  let deltas = 0;
  for await (const part of stream) {
    for (const call of part.choices[0]?.delta.tool_calls ?? []) {
      assert.equal(call.index, 0);
      if (deltas++ === 0) assert.ok(call.id && call.function.name && call.function.arguments === '');
      else assert.ok(!call.function.name && call.function.arguments.length > 0);
    }
  }
  assert.ok(deltas > 3);
  const {choices} = await stream.finalChatCompletion();
  assert.equal(choices[0].finish_reason, 'tool_calls');
  check(choices[0].message.tool_calls[0]);
  const whole = await client.chat.completions.create({...request, seed: 4, tool_choice: 'required'});
  assert.deepEqual(whole.choices[0].message.tool_calls[0].function, {
    name: choices[0].message.tool_calls[0].function.name,
    arguments: choices[0].message.tool_calls[0].function.arguments,
  });
});

test('a call that is cut off says so', async () => {
  const {choices} = await client.chat.completions.create({...request, max_tokens: 42, tool_choice: 'required'});
  assert.equal(choices[0].finish_reason, 'length');
});

test('with auto the model may write what it likes', async () => {
  const {choices} = await client.chat.completions.create({...request, max_tokens: 20, temperature: 0});
  assert.ok(choices[0].message.content.length > 0);
  assert.ok(['length', 'stop'].includes(choices[0].finish_reason));
});

test('what came of a call is read', async () => {
  const {choices} = await client.chat.completions.create({
    model, tools, max_tokens: 10, messages: [
      ...messages,
      {role: 'assistant', tool_calls: [{id: 'abcdefghi', type: 'function',
                                        function: {name: 'weather', arguments: '{"city": "Rome", "days": 1}'}}]},
      {role: 'tool', tool_call_id: 'abcdefghi', content: 'Sun.'}],
  });
  assert.equal(choices.length, 1);
});

test('a schema holds the text to it', async () => {
  const completion = await client.chat.completions.parse(
      {model, messages, max_tokens: 400, response_format: zodResponseFormat(Weather, 'weather')});
  assert.equal(completion.choices[0].finish_reason, 'stop');
  assert.equal(Object.keys(completion.choices[0].message.parsed).length, 2);
  const chosen = await client.chat.completions.create({model, messages, guided_choice: ['yes', 'no']});
  assert.ok(['yes', 'no'].includes(chosen.choices[0].message.content));
  const expression = await client.completions.create({model, prompt: 'a', guided_regex: '[0-9]{3}-[a-c]'});
  assert.match(expression.choices[0].text, /^[0-9]{3}-[a-c]$/);
  const cut = await client.chat.completions.create(
      {model, messages, max_tokens: 3, response_format: zodResponseFormat(Weather, 'weather')});
  assert.equal(cut.choices[0].finish_reason, 'length');
});

test('a schema or tools beside which a call may stand', async () => {
  const {choices} = await client.chat.completions.create(
      {...request, response_format: zodResponseFormat(Weather, 'weather')});
  const {content, tool_calls: calls} = choices[0].message;
  if (calls) calls.forEach(check);
  else Weather.parse(JSON.parse(content));
});

test('what cannot be kept is refused by name', async () => {
  const refused = (body, param, words) => assert.rejects(
      client.chat.completions.create({model, messages, ...body}),
      (error) => error instanceof OpenAI.BadRequestError && error.param === param && words.test(error.message));
  const schema = {type: 'array', uniqueItems: true};
  await refused({response_format: {type: 'json_schema', json_schema: {name: 'n', schema}}}, 'response_format', /uniqueItems/);
  await refused({guided_regex: '(?=a)'}, 'guided_regex', /lookahead/);
  await refused({guided_grammar: 'root ::= "a"'}, 'guided_grammar', /not supported/);
  await refused({tools: [{type: 'function', function: {name: 'f', parameters: {type: 'object', properties: {x: schema}}}}],
                 tool_choice: 'required'}, 'tools', /"f".*uniqueItems/);
  await refused({tools, tool_choice: {type: 'function', function: {name: 'none'}}}, 'tool_choice.function.name', /none/);
  await refused({messages: [{role: 'user', content: [{type: 'image_url', image_url: {url: 'x'}}]}]},
                'messages[0].content[0].type', /image_url/);
});
