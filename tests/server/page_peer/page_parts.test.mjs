// The page's modules one by one, loaded in the browser from the server: trees of turns, metrics, and sums of memory.
import assert from 'node:assert/strict';
import {after, before, test} from 'node:test';

import {serve} from './krait_server.mjs';
import {launch, Reader} from './page_driver.mjs';

let server, browser, reader;

before(async () => {
  server = await serve();
  browser = await launch();
  reader = await Reader.open(browser, server.url);
});
after(async () => {
  await browser?.close();
  assert.equal(await server?.stop(), 0);
});

test('a tree that grew at random is the same after a save, and paths and branches hold together', async () => {
  const problems = await reader.page.evaluate(async () => {
    const {Conversation} = await import('/page/conversation.js');
    const found = [];
    const expect = (holds, what) => { if (!holds) found.push(what); };
    let seed = 7;
    const draw = (below) => { seed = (seed * 1103515245 + 12345) % 2 ** 31; return Math.floor(seed / 2 ** 31 * below); };
    const tree = new Conversation('chat');
    for (let i = 0; i < 300; ++i) {
      const turns = [...tree.turns.values()];
      const turn = turns[draw(turns.length)];
      if (draw(3) > 0) {
        const made = tree.add(turn, draw(2) ? 'user' : 'assistant', `text ${i}`);
        if (draw(2)) made.state = {id: `s${i}`, bytes: 5, position: i, alive: draw(2) === 1};
        expect(tree.tip === made && tree.pathTo(made).at(-1) === made, `added ${i}`);
      } else {
        tree.visit(turn);
        expect(tree.tip.children.length === 0, `visit ${i} ends at a leaf`);
        expect(turn === tree.root || tree.pathTo(tree.tip).includes(turn), `visit ${i} goes through the turn`);
      }
      const {from, after} = tree.startFor(turn);
      const path = tree.pathTo(turn);
      expect(from === null || from.state.alive, `start ${i}`);
      expect(after.every((one) => !one.state?.alive), `after ${i}`);
      expect([...(from ? tree.pathTo(from) : []), ...after].map((one) => one.id).join() === path.map((one) => one.id).join(), `whole ${i}`);
    }
    // Where one has been, one comes back to.
    const branching = [...tree.turns.values()].find((turn) => turn.children.length > 1 && turn !== tree.root);
    for (const child of tree.childrenOf(branching)) {
      tree.visit(child);
      const end = tree.tip;
      tree.visit(branching);
      expect(tree.tip === end, 'the last visited branch');
    }
    const json = JSON.parse(JSON.stringify(tree.toJson()));
    const again = Conversation.fromJson(json);
    const shape = (one) => JSON.stringify([...one.turns.values()].map(({id, parent, children, role, text}) => [id, parent, children, role, text]));
    expect(shape(again) === shape(tree) && again.tip.id === tree.tip.id, 'the same after a save');
    expect([...again.turns.values()].every((turn) => !turn.state?.alive), 'states are asked for before they are used');
    expect(again.add(again.tip, 'user', 'x').id === `t${tree.next}`, 'ids go on');
    return found;
  });
  assert.deepEqual(problems, []);
});

test('metrics are read as the server writes them', async () => {
  await reader.send('Once upon a time');
  const {text} = await server.ask('GET', '/metrics');
  const read = await reader.page.evaluate(async (text) => {
    const {Rate, Samples} = await import('/page/metrics.js');
    const samples = new Samples(text);
    const rate = new Rate();
    for (const [count, at] of [[100, 1000], [150, 2000], [150, 4000], [20, 5000], [40, 6000]]) rate.add(count, at);
    const odd = new Samples('a_total{key="q\\"x,y",kind="b"} 3\na_total 4e+2\n# HELP a_total 1\n');
    return {
      generated: samples.value('krait_generated_tokens_total'), unseen: samples.value('krait_state_lookups_total', 'reason', 'unseen'),
      state: samples.value('krait_state_bytes'), none: samples.value('none'), history: rate.history,
      odd: odd.all('a_total'),
    };
  }, text);
  const line = (start) => Number(text.split('\n').find((one) => one.startsWith(`${start} `)).split(' ').at(-1));
  assert.equal(read.generated, line('krait_generated_tokens_total'));
  assert.equal(read.unseen, line('krait_state_lookups_total{reason="unseen"}'));
  assert.equal(read.state, line('krait_state_bytes'));
  assert.equal(read.none, 0);
  // A counter that fell belongs to a server that began anew: no rate comes of it.
  assert.deepEqual(read.history, [50, 0, 20]);
  assert.deepEqual(read.odd, [{labels: {key: 'q\\"x,y', kind: 'b'}, value: 3}, {labels: {}, value: 400}]);
});

test('the chart: a state of one size is flat, one with attention rises, a cache by its formula', async () => {
  const info = (await server.ask('GET', '/v1/info')).json;
  const got = await reader.page.evaluate(async (info) => {
    const {cacheBytesPerToken, memoryChart, sessionBytes} = await import('/page/memory_chart.js');
    const heights = (state) => memoryChart({model: info.model, state}, [], 4096).querySelector('path.state.line').getAttribute('d')
      .match(/[\d.]+ [\d.]+/g).map((point) => Number(point.split(' ')[1]));
    const paged = {...info.state, has_attention_pages: true, page_bytes: 65536, page_tokens: 64};
    return {
      perToken: cacheBytesPerToken(info.model), flat: heights(info.state), rising: heights(paged),
      sizes: [0, 1, 64, 65].map((position) => sessionBytes(paged, position) - paged.bytes),
    };
  }, info);
  assert.equal(got.perToken, info.model.layers * 2 * info.model.d_model * 2);
  assert.equal(new Set(got.flat).size, 1);
  assert.ok(got.rising.every((height, i) => i === 0 || height < got.rising[i - 1]));  // downwards is more in SVG
  assert.deepEqual(got.sizes, [0, 65536, 65536, 131072]);
});
