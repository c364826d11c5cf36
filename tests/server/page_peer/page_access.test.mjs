// The page for everybody: by keys alone, on a phone, in light and dark, and before axe's rules for accessibility.
import assert from 'node:assert/strict';
import {readFile} from 'node:fs/promises';
import {createRequire} from 'node:module';
import {after, before, test} from 'node:test';

import {serve} from './krait_server.mjs';
import {launch, Reader} from './page_driver.mjs';

const BEGINNING = 'Once upon a time there was a fox who lived in the woods.';
let server, browser, axe;

before(async () => {
  server = await serve();
  browser = await launch();
  axe = await readFile(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
});
after(async () => {
  await browser?.close();
  assert.equal(await server?.stop(), 0);
});

async function grown(options) {
  const reader = await Reader.open(browser, server.url, options);
  await reader.send(BEGINNING);
  await reader.send(' The fox met a bear');
  await reader.press(2, 'Branch here');
  await reader.send(' The king said');
  // The panel asks for metrics every two seconds.
  await reader.page.waitForFunction(() => document.querySelectorAll('#live .reasons dd').length > 0);
  return reader;
}

async function judged(reader, what) {
  await reader.page.evaluate(axe);
  const {violations} = await reader.page.evaluate(() => axe.run(document));
  const grave = violations.filter(({impact}) => impact === 'serious' || impact === 'critical');
  assert.deepEqual(grave.map(({id, nodes}) => `${what}: ${id}: ${nodes.map((node) => node.target).join(' ')}`), []);
}

test('light and dark, neither with a serious violation', async () => {
  const grounds = [];
  for (const colorScheme of ['light', 'dark']) {
    // axe is put in from outside, which the page's own policy would not have.
    const reader = await grown({context: {colorScheme, bypassCSP: true}});
    await judged(reader, colorScheme);
    grounds.push(await reader.page.evaluate(() => getComputedStyle(document.documentElement).backgroundColor));
    await reader.page.evaluate(() => { document.getElementById('turns').scrollTop = 1e6; });
    await reader.screenshot(colorScheme);
    for (const dialog of ['settings', 'keys']) {
      await reader.page.click(`#${dialog}-open`);
      await judged(reader, `${colorScheme} ${dialog}`);
      await reader.screenshot(`${colorScheme}_${dialog}`);
      await reader.page.keyboard.press('Escape');
    }
    await reader.press(3, 'Edit');
    await judged(reader, `${colorScheme} edit`);
    await reader.close();
  }
  assert.notEqual(grounds[0], grounds[1]);
});

test('colours can be chosen against the system', async () => {
  const reader = await Reader.open(browser, server.url, {context: {colorScheme: 'dark'}});
  const ground = () => reader.page.evaluate(() => getComputedStyle(document.documentElement).backgroundColor);
  const dark = await ground();
  await reader.page.click('#theme');
  assert.notEqual(await ground(), dark);
  assert.equal(await reader.page.getAttribute('#theme', 'aria-label'), 'Colours: light');
  await reader.page.click('#theme');
  assert.equal(await ground(), dark);
  await reader.close();
});

test('400 pixels are enough, without scrolling sideways', async () => {
  const reader = await grown({context: {viewport: {width: 400, height: 800}, bypassCSP: true}});
  for (const view of ['turns', 'tree', 'live']) {
    await reader.page.click(`.views button[data-view=${view}]`);
    const wide = await reader.page.evaluate(() => [document.documentElement, ...document.querySelectorAll('body *')]
      .filter((node) => getComputedStyle(node).visibility === 'visible' && node.getBoundingClientRect().right > innerWidth + 0.5)
      .map((node) => `${node.tagName}.${node.className}`));
    assert.deepEqual(wide, [], view);
    assert.equal(await reader.page.evaluate(() => document.documentElement.scrollWidth), 400);
    await judged(reader, `400 ${view}`);
    await reader.screenshot(`phone_${view}`);
  }
  await reader.close();
});

test('nothing moves where less motion is asked for', async () => {
  const reader = await Reader.open(browser, server.url, {context: {reducedMotion: 'reduce'}, settings: {'max-tokens': 20000, temperature: 1}});
  await reader.page.fill('#message', BEGINNING);
  await reader.page.press('#message', 'Enter');
  await reader.page.waitForSelector('.turn.writing');
  const cursor = await reader.page.evaluate(() => getComputedStyle(document.querySelector('.turn.writing .words'), '::after').animationName);
  assert.equal(cursor, 'none');
  await reader.page.keyboard.press('Escape');
  await reader.quiet();
  await reader.close();
});

test('by keys alone: write, answer again, edit, walk the tree, choose a branch', async () => {
  const reader = await Reader.open(browser, server.url, {ready: false});
  const {keyboard} = reader.page;
  const focus = () => reader.page.evaluate(() => document.activeElement.id || document.activeElement.getAttribute('role') || document.activeElement.tagName);
  await reader.quiet();
  // The first thing is a way past everything else.
  await keyboard.press('Tab');
  assert.equal(await reader.page.evaluate(() => document.activeElement.className), 'skip');
  await keyboard.press('Enter');
  assert.equal(await focus(), 'message');
  await keyboard.type(BEGINNING);
  await keyboard.press('Enter');
  await reader.quiet();
  assert.equal(await focus(), 'message');
  assert.equal(await reader.count(), 2);

  await keyboard.press('Alt+r');
  await reader.quiet();
  assert.match(await reader.turn(2).locator('.switcher').textContent(), /2 of 2/);
  const second = await reader.words(2);
  await keyboard.press('Alt+j');
  assert.match(await reader.turn(2).locator('.switcher').textContent(), /1 of 2/);

  await keyboard.press('Alt+e');
  assert.equal(await focus(), 'edit');
  await keyboard.press('End');
  await keyboard.type(' It was winter.');
  await keyboard.press('Enter');
  await reader.quiet();
  assert.equal(await reader.words(1), `${BEGINNING} It was winter.`);
  assert.equal(await focus(), 'message');

  // To the second reply of the first branch: its row comes last in that branch.
  await keyboard.press('Alt+t');
  assert.equal(await focus(), 'treeitem');
  await keyboard.press('Home');
  for (let i = 0; i < 3; ++i) await keyboard.press('ArrowDown');
  await keyboard.press('ArrowLeft');
  await keyboard.press('ArrowRight');
  await keyboard.press('ArrowDown');
  await keyboard.press('Enter');
  assert.equal(await reader.words(2), second);

  await keyboard.press('?');
  assert.equal(await reader.page.evaluate(() => document.querySelector('dialog[open]').id), 'keys');
  await keyboard.press('Escape');
  assert.equal(await reader.page.locator('dialog[open]').count(), 0);

  // What a screen reader was told: sentences, and what the reply cost.
  const told = await reader.page.locator('#announcer p').allTextContents();
  assert.ok(told.some((line) => /The reply is complete. Computed \d+ tokens, \d+ reused/.test(line)), told.join('|'));
  assert.ok(told.every((line) => /[\p{L}\p{N}]/u.test(line)), told.join('|'));
  // Everything that can be pressed has a name.
  const nameless = await reader.page.evaluate(() => [...document.querySelectorAll('button, input, textarea, select')]
    .filter((node) => !(node.textContent.trim() || node.getAttribute('aria-label') || node.labels?.length)).map((node) => node.outerHTML));
  assert.deepEqual(nameless, []);
  assert.deepEqual(reader.complaints, []);
  await reader.close();
});
