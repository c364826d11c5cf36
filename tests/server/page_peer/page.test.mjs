// The page: texts and chats that are streamed, stopped, answered again, edited and branched.
import assert from 'node:assert/strict';
import {after, afterEach, before, test} from 'node:test';

import {serve} from './krait_server.mjs';
import {launch, Reader} from './page_driver.mjs';

const BEGINNING = 'Once upon a time there was a fox who lived in the woods.';
let server, browser, reader;

before(async () => {
  // A browser on a busy machine reads more slowly than replies are written; here it is not to lose them for that.
  server = await serve('--stream-buffer', 1 << 28);
  browser = await launch();
});
afterEach(async () => {
  const {complaints, asked} = reader;
  await reader.close();
  assert.deepEqual(complaints, []);
  assert.deepEqual(asked.filter((url) => !url.startsWith(`${server.url}/`) && !url.startsWith('blob:')), []);
});
after(async () => {
  await browser?.close();
  assert.equal(await server?.stop(), 0);
});

const open = async (options) => { reader = await Reader.open(browser, server.url, options); };
const whole = async (prompt, tokens) =>
  (await server.post('/v1/completions', {prompt, max_tokens: tokens, temperature: 0})).choices[0].text;

test('a model without a template continues texts, and says what it computed', async () => {
  await open();
  assert.equal(await reader.page.getAttribute('#mode-text', 'aria-pressed'), 'true');
  assert.match(await reader.page.textContent('#model'), /tales · mamba2/);
  await reader.send(BEGINNING);
  assert.equal(await reader.count(), 2);
  assert.equal(await reader.words(1), BEGINNING);
  assert.equal(await reader.words(2), (await whole(BEGINNING, 24)).trimStart());
  const cost = await reader.cost(2);
  assert.deepEqual([cost.computed, cost.reused, cost.generated], [await server.tokens(BEGINNING, true), 0, 24]);
});

test('a reply is seen growing, and can be stopped', async () => {
  await open({settings: {'max-tokens': 60000, temperature: 1, seed: 3}});
  await reader.page.fill('#message', BEGINNING);
  await reader.page.press('#message', 'Enter');
  await reader.page.waitForSelector('#stop:not([hidden])');
  const lengths = [];
  const words = reader.turn(2).locator('.words');
  while (lengths.length < 3) {
    const length = (await words.textContent()).length;
    if (length > (lengths.at(-1) ?? 0)) lengths.push(length);
    assert.ok(await reader.page.isVisible('#stop'), `the reply ended by itself after ${length} characters`);
  }
  await reader.page.press('#message', 'Escape');
  await reader.quiet();
  assert.match(await reader.turn(2).textContent(), /Stopped here/);
  assert.ok((await reader.words(2)).length >= lengths[2]);
  // The server stops too: a client that is gone has its sequence cancelled.
  for (let i = 0; i < 100 && await server.metric('krait_sequences{stage="decoding"}') > 0; ++i) {
    await new Promise((done) => setTimeout(done, 50));
  }
  assert.equal(await server.metric('krait_sequences{stage="decoding"}'), 0);
  assert.equal(await server.metric('krait_requests_cancelled_total'), 1);
  // What stands there is gone on from, by its text.
  await reader.set({'max-tokens': 8, temperature: 0, seed: ''});
  const before = BEGINNING + await reader.page.evaluate(() => JSON.parse(sessionStorage.getItem('krait.conversation')).turns[2].text);
  await reader.send('');
  assert.equal(await reader.words(3), (await whole(before, 8)).trimStart());
});

test('answering again keeps the old reply beside the new one', async () => {
  await open({settings: {temperature: 1, seed: 1}});
  await reader.send(BEGINNING);
  const first = await reader.words(2);
  await reader.set({seed: 2});
  await reader.press(2, 'Regenerate');
  await reader.quiet();
  assert.match(await reader.turn(2).locator('.switcher').textContent(), /2 of 2/);
  assert.notEqual(await reader.words(2), first);
  await reader.press(2, 'The branch before');
  assert.equal(await reader.words(2), first);
  assert.equal(await reader.page.evaluate(() => document.activeElement.getAttribute('aria-label')), 'The branch before');
});

for (const how of ['state', 'history']) {
  test(`editing an early turn computes only what is new (by ${how})`, async () => {
    await open({settings: {how}});
    await reader.send(BEGINNING);
    await reader.send(' The fox met a bear in the snow');
    await reader.send(' and then the king came');
    assert.equal(await reader.count(), 6);
    const old = await reader.words(3);
    await reader.press(3, 'Edit');
    const text = ' The fox met a small grey wolf';
    await reader.page.fill('#edit', text);
    await reader.page.press('#edit', 'Enter');
    await reader.quiet();
    assert.equal(await reader.count(), 4);
    const cost = await reader.cost(4);
    const everything = cost.computed + cost.reused;
    assert.ok(cost.computed < everything / 2, JSON.stringify(cost));
    if (how === 'state') assert.equal(cost.computed, await server.tokens(text));
    // By either way it is the text that the whole history has.
    const turns = await reader.page.evaluate(() => JSON.parse(sessionStorage.getItem('krait.conversation')).turns);
    const prompt = turns[1].text + turns[2].text + text;
    if (how === 'history') assert.equal(everything, await server.tokens(prompt, true));
    assert.equal(await reader.words(4), (await whole(prompt, 24)).trimStart());
    // The old branch is where it was.
    await reader.press(3, 'The branch before');
    assert.deepEqual([await reader.count(), await reader.words(3)], [6, old]);
  });
}

test('a branch from any reply, and back by the tree', async () => {
  await open();
  const kept = async () => (await server.ask('GET', '/v1/states')).json.data.length;
  const before = await kept();
  await reader.send(BEGINNING);
  await reader.send(' The fox met a bear');
  await reader.press(2, 'Branch here');
  assert.equal(await reader.count(), 2);
  assert.match(await reader.page.textContent('#from'), /from a kept state after/);
  await reader.send(' The king said');
  assert.equal((await reader.cost(4)).computed, await server.tokens(' The king said'));
  const rows = reader.page.getByRole('treeitem');
  assert.equal(await rows.count(), 7);
  assert.equal(await reader.words(3), 'The king said');
  await rows.filter({hasText: 'The fox met a bear'}).click();
  assert.equal(await reader.words(3), 'The fox met a bear');
  assert.equal(await reader.count(), 4);
  // A fork renewed the state of the turn that was branched at; the old one is not left behind.
  assert.equal(await kept(), before + 3);
});

test('a chat goes on from its states, and its system message stands before it', async () => {
  await open({settings: {system: 'You tell tales.'}});
  await reader.page.click('#mode-chat');
  await reader.send('Who lives in the woods?');
  const messages = [{role: 'system', content: 'You tell tales.'}, {role: 'user', content: 'Who lives in the woods?'}];
  const answer = await server.post('/v1/chat/completions', {messages, max_tokens: 24, temperature: 0});
  assert.equal(await reader.words(2), answer.choices[0].message.content.trimStart());
  assert.equal((await reader.cost(2)).computed, answer.usage.prompt_tokens);
  await reader.send('And then?');
  const cost = await reader.cost(4);
  assert.ok(cost.computed < cost.reused, JSON.stringify(cost));
  assert.match(cost.why, /a state after \d+ tokens was given/);
});

test('a reply that ended at the next speaker leaves no state that has read the name', async () => {
  await open();
  await reader.page.click('#mode-chat');
  // The bundled model does not end its replies so: the answer is the server's but for its reason.
  await reader.page.route('**/v1/chat/completions', async (route) => {
    const answer = await route.fetch();
    await route.fulfill({response: answer, body: (await answer.text()).replace('"finish_reason":"length"', '"finish_reason":"stop"')});
  }, {times: 1});
  await reader.send('Who lives in the woods?');
  assert.match(await reader.turn(2).locator('.note').textContent(), /has read on to the next speaker/);
  assert.equal(await reader.turn(2).locator('.kept').count(), 0);
  const sent = reader.page.waitForRequest('**/v1/chat/completions');
  await reader.send('And then?');
  const body = (await sent).postDataJSON();
  assert.deepEqual([body.state, body.messages.map((message) => message.role)], [undefined, ['user', 'assistant', 'user']]);
});

test('markup in a text is text', async () => {
  await open({settings: {'max-tokens': 2}});
  const markup = '<img src=x onerror="document.title=1"><script>document.title=2</script>';
  await reader.send(markup);
  assert.equal(await reader.words(1), markup);
  assert.equal(await reader.page.locator('#turns img, #turns script, #tree img').count(), 0);
  assert.equal(await reader.page.title(), 'krait');
});

test('a reload shows the conversation again, its states alive', async () => {
  await open();
  await reader.send(BEGINNING);
  const words = await reader.words(2);
  await reader.page.reload();
  await reader.set({temperature: 0, 'max-tokens': 4});
  assert.equal(await reader.words(2), words);
  await reader.send(' Then');
  assert.equal((await reader.cost(4)).computed, await server.tokens(' Then'));
});

test('a new conversation drops the states of the old one', async () => {
  await open();
  const before = (await server.ask('GET', '/v1/states')).json.data.length;
  await reader.send(BEGINNING);
  await reader.page.click('#new');
  await reader.page.click('#anew .primary');
  await reader.page.waitForFunction(() => document.querySelectorAll('#turns .turn').length === 0);
  assert.equal((await server.ask('GET', '/v1/states')).json.data.length, before);
});
