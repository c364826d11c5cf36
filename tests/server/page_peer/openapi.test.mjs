// What /openapi.json says, before OpenAPI's schema; and what the server answers, before what it says.
import assert from 'node:assert/strict';
import {mkdtemp, rm, writeFile} from 'node:fs/promises';
import {tmpdir} from 'node:os';
import {join} from 'node:path';
import {after, before, test} from 'node:test';

import {Validator} from '@seriousme/openapi-schema-validator';
import Ajv2020 from 'ajv/dist/2020.js';

import {serve} from './krait_server.mjs';

const PROMPT = 'Once upon a time';
const MESSAGES = [{role: 'system', content: 'You tell tales.'}, {role: 'user', content: [{type: 'text', text: 'Who?'}]}];
let server, document, ajv;
const seen = new Set();

before(async () => {
  server = await serve();
  document = (await server.ask('GET', '/openapi.json')).json;
  ajv = new Ajv2020({strict: false, validateFormats: false, allErrors: true});
  ajv.addSchema(document, 'document');
});
after(async () => {
  assert.equal(await server?.stop(), 0);
});

const pointer = (...parts) => `document#/${parts.map((part) => encodeURIComponent(String(part).replaceAll('~', '~0').replaceAll('/', '~1'))).join('/')}`;

function check(where, value, what) {
  const validate = ajv.getSchema(where);
  assert.ok(validate, `${where} is no schema`);
  assert.ok(validate(value), `${what}: ${ajv.errorsText(validate.errors)}\n${JSON.stringify(value).slice(0, 600)}`);
}

// The place in the document of a response's schema, references followed.
function schemaOf(path, method, status, type, member = 'schema') {
  const responses = document.paths[path][method].responses;
  const name = responses[status] ? String(status) : `${String(status)[0]}XX`;
  const response = responses[name];
  assert.ok(response, `${method} ${path}: ${status} is not described`);
  let parts = ['paths', path, method, 'responses', name];
  if (response.$ref) parts = response.$ref.slice(2).split('/');
  const content = parts.reduce((node, part) => node[part], document).content;
  assert.ok(content?.[type]?.[member] !== undefined, `${method} ${path}: ${status} ${type} is not described`);
  return pointer(...parts, 'content', type, member);
}

// Asks, and holds request and answer against the document.
async function ask(method, path, body, {status = 200, at = path, headers, fits = true} = {}) {
  const operation = document.paths[at][method.toLowerCase()];
  if (body !== undefined && fits) check(pointer('paths', at, method.toLowerCase(), 'requestBody', 'content', 'application/json', 'schema'), body, `request of ${at}`);
  const answer = await server.ask(method, path, body, headers);
  assert.equal(answer.status, status, answer.text);
  const type = answer.headers.get('content-type').split(';')[0];
  const lower = method.toLowerCase();
  assert.ok(operation);
  if (type === 'text/event-stream') {
    const events = answer.text.split('\n\n').filter((event) => event !== '').map((event) => /^data: (.*)$/m.exec(event)[1]);
    // Events with names say themselves which is the last.
    if (at !== '/v1/responses') assert.equal(events.pop(), '[DONE]');
    assert.ok(events.length > 0);
    for (const event of events) check(schemaOf(at, lower, status, type, 'x-event'), JSON.parse(event), `event of ${at}`);
  } else if (type === 'application/x-ndjson') {
    for (const line of answer.text.trim().split('\n')) check(schemaOf(at, lower, status, type, 'x-line'), JSON.parse(line), `line of ${at}`);
  } else if (type === 'application/json') {
    check(schemaOf(at, lower, status, type), answer.json, `answer of ${at}`);
  } else {
    schemaOf(at, lower, status, type);
  }
  seen.add(`${lower} ${at}`);
  return answer;
}

test('the document keeps to OpenAPI 3.1, and every reference in it leads somewhere', async () => {
  const validator = new Validator();
  const result = await validator.validate(structuredClone(document));
  assert.ok(result.valid, JSON.stringify(result.errors));
  assert.equal(validator.version, '3.1');
  const names = [];
  (function walk(node) {
    if (node === null || typeof node !== 'object') return;
    if (typeof node.$ref === 'string') {
      names.push(node.$ref);
      assert.ok(node.$ref.slice(2).split('/').reduce((inner, part) => inner?.[part], document), node.$ref);
    }
    Object.values(node).forEach(walk);
  })(document);
  // And nothing is described that nobody refers to.
  for (const name of Object.keys(document.components.schemas)) assert.ok(names.includes(`#/components/schemas/${name}`), name);
  const ids = Object.values(document.paths).flatMap((item) => Object.values(item)).map((one) => one.operationId).filter(Boolean);
  assert.equal(new Set(ids).size, ids.length);
});

test('a wrong answer does not pass', () => {
  const validate = ajv.getSchema(schemaOf('/health', 'get', 200, 'application/json'));
  assert.ok(!validate({status: 'bad'}));
  assert.ok(!ajv.getSchema(pointer('components', 'schemas', 'Completion'))({id: 'x'}));
});

test('completions', async () => {
  for (const more of [{}, {logprobs: 2, n: 2, temperature: 1}, {return_state: true, echo: true}, {stream: true, logprobs: 1},
    {stream: true, stream_options: {include_usage: true}, return_state: true}]) {
    await ask('POST', '/v1/completions', {prompt: PROMPT, max_tokens: 4, ...more});
  }
  await ask('POST', '/v1/completions', {prompt: [[1, 2], [3]], max_tokens: 1});
  await ask('POST', '/v1/completions', {prompt: PROMPT, temperature: -1}, {status: 400, fits: false});
  await ask('POST', '/v1/completions', {prompt: PROMPT, model: 'none'}, {status: 404});
});

test('chats', async () => {
  for (const more of [{}, {logprobs: true, top_logprobs: 2}, {return_state: true}, {stream: true, logprobs: true, top_logprobs: 1},
    {stream: true, stream_options: {include_usage: true}, return_state: true}]) {
    await ask('POST', '/v1/chat/completions', {messages: MESSAGES, max_tokens: 4, ...more});
  }
  await ask('POST', '/v1/chat/completions', {messages: []}, {status: 400, fits: false});
});

test('texts held to a form, and calls of functions', async () => {
  const schema = {type: 'object', properties: {a: {type: 'integer', maximum: 99, minimum: 0}}, required: ['a'], additionalProperties: false};
  const response_format = {type: 'json_schema', json_schema: {name: 'a', strict: true, schema}};
  for (const form of [{response_format}, {guided_regex: '[a-c]{3}'}, {guided_choice: ['yes', 'no']}]) {
    await ask('POST', '/v1/completions', {prompt: PROMPT, max_tokens: 40, ...form});
    await ask('POST', '/v1/chat/completions', {messages: MESSAGES, max_tokens: 40, ...form});
  }
  const tools = [{type: 'function', function: {name: 'look', parameters: schema}}];
  for (const stream of [false, true]) {
    const {text} = await ask('POST', '/v1/chat/completions', {messages: MESSAGES, max_tokens: 60, tools, tool_choice: 'required', stream, seed: 1});
    assert.match(text, /tool_calls/);
    await ask('POST', '/api/chat', {messages: [{role: 'user', content: 'Who?'}], tools, stream, options: {num_predict: 8}});
  }
});

test('responses, kept and forgotten', async () => {
  const {json} = await ask('POST', '/v1/responses', {input: PROMPT, max_output_tokens: 4});
  await ask('POST', '/v1/responses', {input: PROMPT, max_output_tokens: 4, previous_response_id: json.id, instructions: 'Be brief.'});
  await ask('POST', '/v1/responses', {input: PROMPT, max_output_tokens: 4, stream: true});
  await ask('GET', `/v1/responses/${json.id}`, undefined, {at: '/v1/responses/{id}'});
  await ask('DELETE', `/v1/responses/${json.id}`, undefined, {at: '/v1/responses/{id}'});
  await ask('GET', `/v1/responses/${json.id}`, undefined, {at: '/v1/responses/{id}', status: 404});
});

test('models, tokens and sizes', async () => {
  await ask('GET', '/v1/models');
  await ask('GET', '/v1/models/tales', undefined, {at: '/v1/models/{id}'});
  await ask('GET', '/v1/models/none', undefined, {at: '/v1/models/{id}', status: 404});
  await ask('GET', '/v1/info');
  const {json} = await ask('POST', '/tokenize', {prompt: PROMPT});
  await ask('POST', '/detokenize', {tokens: json.tokens});
});

test('groups of cores', async () => {
  await ask('GET', '/v1/admin/core-groups');
  await ask('PUT', '/v1/admin/core-groups', {core_groups: 'together'});
  await ask('PUT', '/v1/admin/core-groups', {core_groups: '100000:1'}, {status: 400});
  await ask('PUT', '/v1/admin/core-groups', {core_groups: 'fast'}, {status: 400, fits: false});
});

test('states', async () => {
  const {json} = await ask('POST', '/v1/states', {text: PROMPT, ttl_seconds: 60}, {status: 201});
  await ask('POST', '/v1/states', {messages: MESSAGES}, {status: 201});
  await ask('GET', '/v1/states');
  await ask('POST', `/v1/states/${json.id}/fork?ttl_seconds=9`, {}, {status: 201, at: '/v1/states/{id}/fork'});
  const file = await fetch(`${server.url}/v1/states/${json.id}`);
  assert.equal(file.headers.get('content-type'), 'application/octet-stream');
  const answer = await fetch(`${server.url}/v1/states/mine`, {method: 'PUT', body: await file.arrayBuffer()});
  assert.equal(answer.status, 201);
  check(schemaOf('/v1/states/{id}', 'put', 201, 'application/json'), await answer.json(), 'uploaded');
  await ask('DELETE', '/v1/states/mine', undefined, {at: '/v1/states/{id}'});
  await ask('GET', '/v1/states/mine', undefined, {at: '/v1/states/{id}', status: 404});
});

test("Ollama's", async () => {
  const options = {num_predict: 4, temperature: 0};
  const messages = [{role: 'user', content: 'Who?'}];
  for (const stream of [true, false]) {
    await ask('POST', '/api/generate', {prompt: PROMPT, stream, options});
    await ask('POST', '/api/chat', {messages, stream, options});
  }
  await ask('POST', '/api/chat', {messages: []}, {status: 400, fits: false});
  await ask('GET', '/api/tags');
  await ask('GET', '/api/version');
});

test('the server and its page', async () => {
  await ask('GET', '/health');
  await ask('GET', '/ready');
  await ask('GET', '/metrics');
  const page = await ask('GET', '/');
  const headers = {'if-none-match': page.headers.get('etag')};
  assert.equal((await server.ask('GET', '/', undefined, headers)).status, 304);
  for (const [, name] of page.text.matchAll(/"\/page\/([\w.]+)"/g)) await ask('GET', `/page/${name}`, undefined, {at: '/page/{id}'});
  await ask('GET', '/page/none.js', undefined, {at: '/page/{id}', status: 404});
  // One of its own answers, too.
  check(schemaOf('/openapi.json', 'get', 200, 'application/json'), document, 'openapi');
  seen.add('get /openapi.json');
});

test('vectors', async () => {
  await ask('POST', '/v1/embeddings', {input: PROMPT});
  await ask('POST', '/v1/embeddings', {input: [[1, 2], [3]], encoding_format: 'base64', pooling: 'last'});
  await ask('POST', '/v1/embeddings', {input: ''}, {status: 400, fits: false});
  await ask('POST', '/api/embed', {input: [PROMPT, 'a']});
  await ask('POST', '/api/embeddings', {prompt: PROMPT});
  // The logprobs of a prompt, which begin with none.
  await ask('POST', '/v1/completions', {prompt: PROMPT, echo: true, logprobs: 2, max_tokens: 1});
});

test('without a key the refusal has the shape of an error', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'krait-openapi-'));
  let keyed;
  try {
    await writeFile(`${folder}/keys`, 'alice sk-alice\n');
    keyed = await serve('--api-key-file', `${folder}/keys`);
    for (const [path, item] of Object.entries(document.paths)) {
      for (const [method, operation] of Object.entries(item)) {
        if (!operation.operationId || !seen.has(`${method} ${path}`)) continue;
        const {status, json} = await keyed.ask(method.toUpperCase(), path.replace('{id}', 'theme.js'),
          ['post', 'put'].includes(method) ? {} : undefined);
        const open = operation.security?.length === 0;
        assert.equal(status, open ? 200 : 401, `${method} ${path}`);
        if (!open) check(schemaOf(path, method, 401, 'application/json'), json, path);
      }
    }
  } finally {
    await keyed?.stop();
    await rm(folder, {recursive: true});
  }
});
