// Memory of a session against the length of its text: that of this model, and that of a transformer of its size.
//
// The transformer's cache of keys and values is layers x 2 x d_model x 2 bytes for every token: a key and a value of
// the model's width in each layer, in 16 bits. One with grouped queries keeps fewer; the shape stays a line that rises.
import {bytes, drawing, element, number, tokens} from './dom.js';

const WIDTH = 320, HEIGHT = 190, LEFT = 56, RIGHT = 10, TOP = 12, BOTTOM = 26;
const BYTES_PER_NUMBER = 2;

export const cacheBytesPerToken = (model) => model.layers * 2 * model.d_model * BYTES_PER_NUMBER;

export function sessionBytes(state, position) {
  return state.bytes + (state.has_attention_pages ? Math.ceil(position / state.page_tokens) * state.page_bytes : 0);
}

function shortTokens(count) {
  return count >= 2 ** 20 ? `${count / 2 ** 20}M` : count >= 1024 ? `${count / 1024}k` : String(count);
}

// `points`: {position, bytes} of states that the server gave.
export function memoryChart({model, state}, points, length) {
  const perToken = cacheBytesPerToken(model);
  const most = Math.max(perToken * length, sessionBytes(state, length)) * 1.08;
  const x = (position) => LEFT + Math.min(position / length, 1) * (WIDTH - LEFT - RIGHT);
  const y = (size) => HEIGHT - BOTTOM - size / most * (HEIGHT - TOP - BOTTOM);
  const svg = drawing('svg', {class: 'chart', viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: 'img', 'aria-labelledby': 'memory-words'});
  const label = (text, attributes) => svg.append(drawing('text', {text, ...attributes}));
  for (const part of [0, 0.25, 0.5, 0.75, 1]) {
    const size = most / 1.08 * part;
    svg.append(drawing('path', {class: 'grid', d: `M${LEFT} ${y(size)}H${WIDTH - RIGHT}`}));
    if (part > 0) label(bytes(size), {x: LEFT - 6, y: y(size) + 3.5, 'text-anchor': 'end'});
    label(part === 0 ? '0' : shortTokens(length * part), {x: x(length * part), y: HEIGHT - 9, 'text-anchor': part === 1 ? 'end' : 'middle'});
  }
  svg.append(drawing('path', {class: 'cache line', d: `M${x(0)} ${y(0)}L${x(length)} ${y(perToken * length)}`}));
  let mine = `M${x(0)} ${y(sessionBytes(state, 0))}`;
  for (let i = 1; i <= 32; ++i) mine += `L${x(length * i / 32)} ${y(sessionBytes(state, length * i / 32))}`;
  svg.append(drawing('path', {class: 'state line', d: mine}));
  for (const point of points) {
    if (point.position > length) continue;
    const size = sessionBytes(state, point.position);
    svg.append(drawing('circle', {class: 'state', cx: x(point.position), cy: y(size), r: 3.5}));
    svg.append(drawing('circle', {class: 'cache', cx: x(point.position), cy: y(perToken * point.position), r: 3.5}));
  }
  return svg;
}

export function memoryWords({model, state}, length) {
  const cache = cacheBytesPerToken(model) * length, own = sessionBytes(state, length);
  const factor = cache / own;
  return element('div', {id: 'memory-words'},
    element('p', {class: 'legend'},
      element('span', {class: 'mark state'}), `this model: ${bytes(own)}`,
      element('span', {class: 'mark cache'}), `a transformer: ${bytes(cache)}`),
    element('p', {class: 'hint', text: `After ${tokens(length)}. ` +
      (state.has_attention_pages ? `This model's attention adds ${bytes(state.page_bytes)} for every ${state.page_tokens} tokens. ` : 'The line of this model is flat: its state has one size. ') +
      (factor >= 1 ? `The transformer takes ${number(factor)} times as much.` : `Up to ${tokens(Math.ceil(own / cacheBytesPerToken(model)))} the transformer takes less.`)}),
    element('p', {class: 'hint', text: `The transformer is one of the same size: ${model.layers} layers × 2 (a key and a value) × d_model ${model.d_model} × ${BYTES_PER_NUMBER} bytes = ${bytes(cacheBytesPerToken(model))} for each token. Grouped queries would divide it; it would still rise.`}));
}
