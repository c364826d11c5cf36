// The live panel: memory, speed, and what was reused and why, of this conversation and of the whole server.
import * as api from './api.js';
import {bytes, drawing, element, number, tokens} from './dom.js';
import {memoryChart, memoryWords} from './memory_chart.js';
import {Rate, Samples} from './metrics.js';

const EVERY = 2000;  // milliseconds
const LENGTHS = [512, 4096, 32768, 262144, 1048576];
const REASONS = {
  hit: 'the whole prompt was there',
  partial_hit: 'its beginning was there',
  unseen: 'nothing began like it',
  no_state: 'known, but no state on its way',
  evicted: 'had been there, gave way to others',
  other_model: 'belonged to another model',
  disabled: 'the store was off',
};

function sparkline(history) {
  const most = Math.max(...history, 1);
  const points = history.map((rate, i) => `${(i + 60 - history.length) / 59 * 300},${40 - rate / most * 36}`).join(' ');
  return drawing('svg', {class: 'spark', viewBox: '0 0 300 42', 'aria-hidden': 'true', preserveAspectRatio: 'none'},
    drawing('path', {d: 'M0 41H300'}), drawing('polyline', {points}));
}

function figure(value, words) {
  return element('div', {class: 'figure'}, element('dt', {text: words}), element('dd', {text: value}));
}

export class LivePanel {
  constructor(node) {
    this.length = LENGTHS[1];
    this.rate = new Rate();
    this.samples = null;
    const choice = element('select', {id: 'length', onchange: () => this.#lengthChosen()},
      ...LENGTHS.map((length) => element('option', {value: length, text: tokens(length), selected: length === this.length})));
    this.memory = element('div');
    this.speed = element('div');
    this.reuse = element('div');
    this.server = element('dl', {class: 'figures'});
    this.choice = choice;
    node.replaceChildren(
      element('h3', {text: 'Memory of one session'}), this.memory,
      element('label', {class: 'hint', for: 'length', text: 'Length of the text '}, choice),
      element('h3', {text: 'Speed'}), this.speed,
      element('h3', {text: 'Computed and reused'}), this.reuse,
      element('h3', {text: 'The server'}), this.server);
  }

  start(info) {
    this.info = info;
    this.#tick();
    setInterval(() => this.#tick(), EVERY);
  }

  // After every change of the conversation.
  render(conversation) {
    if (!this.info) return;
    this.conversation = conversation;
    const path = conversation.pathTo(conversation.tip);
    const points = path.filter((turn) => turn.state).map((turn) => turn.state);
    const deepest = Math.max(0, ...points.map((point) => point.position));
    if (!this.chosen) this.length = LENGTHS.find((length) => length >= Math.max(4 * deepest, 4096)) ?? LENGTHS.at(-1);
    this.choice.value = this.length;
    this.memory.replaceChildren(memoryChart(this.info, points, this.length), memoryWords(this.info, this.length));
    this.#showReuse();
  }

  #lengthChosen() {
    this.chosen = true;
    this.length = Number(this.choice.value);
    this.render(this.conversation);
  }

  async #tick() {
    if (document.hidden) return;
    try {
      this.samples = new Samples(await api.getText('/metrics'));
    } catch {
      return;  // the turns say when the server is gone
    }
    this.rate.add(this.samples.value('krait_generated_tokens_total'));
    this.#showSpeed();
    this.#showReuse();
    this.#showServer();
  }

  #showSpeed() {
    const last = [...(this.conversation?.turns.values() ?? [])].filter((turn) => turn.usage?.rate).at(-1);
    const steps = this.samples.value('krait_step_seconds_count');
    this.speed.replaceChildren(sparkline(this.rate.history), element('dl', {class: 'figures'},
      figure(this.rate.now.toFixed(1), 'tokens a second, all sessions'),
      figure(last ? last.usage.rate.toFixed(1) : '–', 'tokens a second, last reply'),
      figure(steps ? `${(this.samples.value('krait_step_seconds_sum') / steps * 1000).toFixed(1)} ms` : '–', 'a step of the engine, on average')));
  }

  #showReuse() {
    const turns = [...(this.conversation?.turns.values() ?? [])].filter((turn) => turn.usage);
    const sum = (name) => turns.reduce((total, turn) => total + turn.usage[name], 0);
    const computed = sum('computed'), reused = sum('reused');
    const parts = [element('p', {class: 'hint', text: 'In this conversation, of the tokens before each reply:'}),
      computed + reused === 0 ? null : element('meter', {class: 'share', min: 0, max: computed + reused, value: reused,
                                                         'aria-label': 'Share of tokens reused in this conversation'}),
      element('dl', {class: 'figures'}, figure(number(computed), 'computed'), figure(number(reused), 'reused'))];
    const lookups = this.samples?.all('krait_state_lookups_total') ?? [];
    if (lookups.length > 0) {
      parts.push(element('p', {class: 'hint', text: 'Prompts of all sessions, looked up in the store of states:'}),
        element('dl', {class: 'reasons'}, ...lookups.flatMap(({labels, value}) => [
          element('dt', {text: REASONS[labels.reason] ?? labels.reason}), element('dd', {text: number(value)})])));
    }
    this.reuse.replaceChildren(...parts.filter((part) => part !== null));
  }

  #showServer() {
    const stage = (name) => this.samples.value('krait_sequences', 'stage', name);
    this.server.replaceChildren(
      figure(number(stage('prefilling') + stage('decoding')), 'sessions being computed'),
      figure(number(stage('waiting') + stage('parked')), 'waiting'),
      figure(number(this.samples.value('krait_kept_states')), 'states kept for clients'),
      figure(number(this.samples.value('krait_states_capacity')), 'states that fit in memory'),
      figure(bytes(this.samples.value('krait_state_memory_bytes')), 'memory that states have touched'));
  }
}
