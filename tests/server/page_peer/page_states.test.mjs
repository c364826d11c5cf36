// States as files, states that expire, conversations as files, and keys.
import assert from 'node:assert/strict';
import {mkdtemp, rm, writeFile} from 'node:fs/promises';
import {tmpdir} from 'node:os';
import {join} from 'node:path';
import {after, afterEach, before, test} from 'node:test';

import {serve} from './krait_server.mjs';
import {launch, Reader} from './page_driver.mjs';

const BEGINNING = 'Once upon a time there was a fox who lived in the woods.';
let browser, folder, servers, readers;

before(async () => {
  browser = await launch();
  folder = await mkdtemp(join(tmpdir(), 'krait-page-'));
  servers = [];
  readers = [];
});
afterEach(async () => {
  for (const reader of readers.splice(0)) await reader.close();
  for (const server of servers.splice(0)) assert.equal(await server.stop(), 0);
});
after(async () => {
  await browser?.close();
  await rm(folder, {recursive: true});
});

async function start(...options) {
  servers.push(await serve(...options));
  return servers.at(-1);
}
async function open(url, options) {
  readers.push(await Reader.open(browser, url, options));
  return readers.at(-1);
}
async function saved(download) {
  const path = join(folder, download.suggestedFilename());
  await download.saveAs(path);
  return path;
}

test('a conversation and a state are saved, and gone on from on a new server', async () => {
  const first = await start();
  const reader = await open(first.url);
  await reader.send(BEGINNING);
  await reader.send(' The fox met a bear');
  const state = await saved(await reader.download(() => reader.press(4, 'Save state')));
  const conversation = await saved(await reader.download(() => reader.page.click('#save')));
  const reply = await reader.words(4);
  await reader.send(' and they');
  const {computed} = await reader.cost(6), words = await reader.words(6);
  assert.deepEqual(reader.complaints, []);
  await reader.close();
  readers.pop();
  assert.equal(await first.stop(), 0);
  servers.pop();

  const second = await start();
  const other = await open(second.url);
  await other.load(conversation);
  assert.match(await other.notice(), /Loaded 4 turns.*2 have expired/);
  assert.equal(await other.words(4), reply);
  await other.load(state);
  assert.match(await other.notice(), /back behind its turn/);
  await other.send(' and they');
  assert.deepEqual([(await other.cost(6)).computed, await other.words(6)], [computed, words]);
  assert.equal(computed, await second.tokens(' and they'));
  assert.deepEqual(other.complaints, []);

  // The state alone begins a conversation whose text is not known.
  const third = await open(second.url);
  await third.load(state);
  assert.match(await third.turn(1).textContent(), /A state from a file/);
  await third.send(' and they');
  assert.equal(await third.words(3), words);
  assert.deepEqual(third.complaints, []);
});

test('where a state has expired the history is sent again, and that is said', async () => {
  const server = await start('--state-ttl', 0.8);
  const reader = await open(server.url);
  await reader.send(BEGINNING);
  await new Promise((done) => setTimeout(done, 1000));
  await reader.send(' The fox met');
  assert.match(await reader.turn(4).locator('.note').textContent(), /A kept state had expired, so the history was sent again/);
  const turns = await reader.page.evaluate(() => JSON.parse(sessionStorage.getItem('krait.conversation')).turns);
  const prompt = turns.slice(1, 4).map((turn) => turn.text).join('');
  const answer = await server.post('/v1/completions', {prompt, max_tokens: 24, temperature: 0});
  assert.equal(await reader.words(4), answer.choices[0].text.trimStart());
  const cost = await reader.cost(4);
  assert.equal(cost.computed + cost.reused, answer.usage.prompt_tokens);
});

test('files that are no conversation are refused with a sentence', async () => {
  const server = await start();
  const reader = await open(server.url);
  const bad = {
    'text.json': ['no JSON at all', /is no JSON/],
    'other.json': ['{"format": "other"}', /this is no conversation of krait/],
    'ring.json': [JSON.stringify({format: 'krait-conversation', version: 1, turns: [
      {id: 't1', parent: null, role: 'root', text: ''}, {id: 't2', parent: 't3', role: 'user', text: 'a'},
      {id: 't3', parent: 't2', role: 'user', text: 'b'}]}), /turn 2 of the conversation follows none/],
    'markup.json': [JSON.stringify({format: 'krait-conversation', version: 1, turns: [
      {id: '<b>', parent: null, role: 'root', text: ''}]}), /turn 1 of the conversation is damaged/],
    'bad.state': ['not a state', /state/],
  };
  for (const [name, [text, sentence]] of Object.entries(bad)) {
    const path = join(folder, name);
    await writeFile(path, text);
    await reader.load(path);
    await reader.page.waitForFunction((source) => new RegExp(source).test(document.getElementById('notice').textContent), sentence.source);
  }
  assert.equal(await reader.count(), 0);
});

test('a key is asked for, and stays in the tab', async () => {
  const keys = join(folder, 'keys');
  await writeFile(keys, 'alice sk-alice-key\n');
  const server = await start('--api-key-file', keys);
  const reader = await open(server.url, {ready: false});
  await reader.page.waitForSelector('#key-form:not([hidden])');
  assert.equal(await reader.page.evaluate(() => document.activeElement.id), 'key');
  await reader.page.fill('#key', 'sk-wrong');
  await reader.page.press('#key', 'Enter');
  await reader.page.waitForFunction(() => /no valid API key/.test(document.getElementById('notice').textContent));
  await reader.page.fill('#key', 'sk-alice-key');
  await reader.page.press('#key', 'Enter');
  await reader.page.waitForSelector('#key-form', {state: 'hidden'});
  await reader.set({temperature: 0, 'max-tokens': 4});
  await reader.send(BEGINNING);
  assert.equal((await reader.cost(2)).generated, 4);
  const stored = await reader.page.evaluate(() => [Object.values(sessionStorage), Object.values(localStorage), document.cookie]);
  assert.ok(stored[0].includes('sk-alice-key'));
  assert.ok(!JSON.stringify(stored.slice(1)).includes('sk-alice-key'));
  // The two refusals are all that the browser complained about.
  assert.ok(reader.complaints.every((one) => one.includes('401')), reader.complaints.join('\n'));
});

test('with a chat template the page begins as a chat, and its states go on in the form of the template', async () => {
  const template = join(folder, 'chat.jinja');
  await writeFile(template, "{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}\n{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}");
  const server = await start('--chat-template', template);
  assert.equal((await server.ask('GET', '/v1/info')).json.chat_template, true);
  const reader = await open(server.url);
  assert.equal(await reader.page.getAttribute('#mode-chat', 'aria-pressed'), 'true');
  await reader.send('Who lives in the woods?');
  const sent = reader.page.waitForRequest('**/v1/chat/completions');
  await reader.send('And then?');
  const body = (await sent).postDataJSON();
  assert.match(body.state, /^st_/);
  assert.deepEqual(body.messages, [{role: 'user', content: 'And then?'}]);
  const {computed, reused} = await reader.cost(4);
  assert.ok(computed < reused, `${computed} of ${computed + reused}`);
  assert.deepEqual(reader.complaints, []);
});
