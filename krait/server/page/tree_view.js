// The tree of turns as rows with a drawn gutter: older branches first and one step in, the newest goes straight down.
// Keys are those of a tree (WAI-ARIA): up, down, left to the parent, right to the first child, Enter goes there.
import {drawing, element} from './dom.js';

const ROW = 32, STEP = 14, LEFT = 13;

// [{turn, column, row, level}] in the order they stand in, each branch's own beside its parent's.
function layOut(conversation) {
  const rows = [];
  const waiting = [{turn: conversation.root, column: 0, level: 1}];
  while (waiting.length > 0) {
    const at = waiting.pop();
    at.row = rows.length;
    rows.push(at);
    const children = conversation.childrenOf(at.turn);
    for (let i = children.length - 1; i >= 0; --i) {
      const newest = i === children.length - 1;
      waiting.push({turn: children[i], column: at.column + (newest ? 0 : 1), level: at.level + 1, above: at});
    }
  }
  return rows;
}

const x = (at) => LEFT + Math.min(at.column, 8) * STEP;
const y = (at) => at.row * ROW + ROW / 2;

function draw(rows, shown) {
  const svg = drawing('svg', {class: 'branches', width: 9 * STEP, height: rows.length * ROW, 'aria-hidden': 'true'});
  for (const at of rows) {
    if (!at.above) continue;
    const from = `M${x(at.above)} ${y(at.above)}`;
    const line = x(at) === x(at.above) ? `${from}V${y(at)}`
      : `${from}V${y(at.above) + ROW / 2}Q${x(at.above)} ${y(at.above) + ROW * 0.8} ${x(at)} ${y(at.above) + ROW * 0.8}V${y(at)}`;
    const path = drawing('path', {d: line, class: shown.has(at.turn) ? 'shown' : ''});
    svg.append(path);
  }
  for (const at of rows) {
    const kind = `${at.turn.role} ${shown.has(at.turn) ? 'shown' : ''}`;
    if (at.turn.state?.alive) svg.append(drawing('circle', {cx: x(at), cy: y(at), r: 7.5, class: `ring ${kind}`}));
    svg.append(drawing('circle', {cx: x(at), cy: y(at), r: 4, class: kind}));
  }
  return svg;
}

export class TreeView {
  constructor(node, visit) {
    this.node = node;
    this.visit = visit;
    this.focusRow = null;
    node.addEventListener('keydown', (event) => this.#key(event));
  }

  render(conversation, modelName) {
    const hadFocus = this.node.contains(document.activeElement);
    const shown = new Set(conversation.pathTo(conversation.tip)).add(conversation.root);
    this.rows = layOut(conversation);
    if (!this.rows.some((at) => at.turn === this.focusRow)) this.focusRow = conversation.tip;
    this.items = this.rows.map((at) => this.#item(at, conversation, shown, modelName));
    const list = element('div', {role: 'tree', 'aria-labelledby': 'tree-title', class: 'rows'}, ...this.items);
    this.node.replaceChildren(draw(this.rows, shown), list);
    if (hadFocus) this.#focus(this.rows.findIndex((at) => at.turn === this.focusRow));
  }

  #item(at, conversation, shown, modelName) {
    const {turn} = at;
    const words = turn.role === 'root' ? (turn.state ? 'A state from a file' : 'Beginning') : turn.text.trim().slice(0, 80) || '…';
    const who = {root: '', user: 'You', assistant: modelName}[turn.role];
    const siblings = conversation.siblings(turn);
    return element('div', {
      role: 'treeitem', class: `row-item ${shown.has(turn) ? 'shown' : ''}`, tabindex: turn === this.focusRow ? 0 : -1,
      'aria-level': at.level, 'aria-setsize': siblings.length, 'aria-posinset': siblings.indexOf(turn) + 1,
      'aria-selected': String(turn === conversation.tip), 'aria-current': shown.has(turn) ? 'true' : undefined,
      'aria-expanded': turn.children.length > 0 ? 'true' : undefined, 'data-column': Math.min(at.column, 8),
      'aria-label': `${who}${who ? ': ' : ''}${words}${turn.state?.alive ? ', state kept' : ''}`,
      onclick: () => this.#go(turn),
    }, element('span', {class: `who ${turn.role}`, text: words}));
  }

  #go(turn) {
    this.focusRow = turn;
    this.visit(turn);
  }

  #focus(row) {
    if (row < 0 || row >= this.items.length) return;
    for (const item of this.items) item.tabIndex = -1;
    this.items[row].tabIndex = 0;
    this.items[row].focus();
    this.focusRow = this.rows[row].turn;
  }

  #key(event) {
    const row = this.items.indexOf(document.activeElement);
    if (row < 0 || event.altKey || event.ctrlKey || event.metaKey) return;
    const at = this.rows[row];
    const childRow = this.rows.findIndex((other) => other.above === at);
    switch (event.key) {
      case 'ArrowDown': this.#focus(row + 1); break;
      case 'ArrowUp': this.#focus(row - 1); break;
      case 'ArrowLeft': if (at.above) this.#focus(at.above.row); break;
      case 'ArrowRight': this.#focus(childRow); break;
      case 'Home': this.#focus(0); break;
      case 'End': this.#focus(this.items.length - 1); break;
      case 'Enter': case ' ': this.#go(at.turn); break;
      default: return;
    }
    event.preventDefault();
  }
}
