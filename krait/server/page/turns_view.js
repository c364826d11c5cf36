// The turns of the path that is shown, with what each cost and what can be done with it.
import {element, number, tokens} from './dom.js';

function costOf(turn) {
  const {computed, reused, generated, rate, why, note} = turn.usage;
  const line = element('p', {class: 'cost'},
    element('span', {class: 'computed', text: `computed ${tokens(computed)}`}),
    ', ', element('span', {class: reused > 0 ? 'reused' : '', text: `${number(reused)} reused`}), why ? `: ${why}` : '',
    element('span', {class: 'wrote', text: ` · wrote ${number(generated)}${rate ? `, ${rate.toFixed(1)} a second` : ''}`}));
  const share = element('meter', {class: 'share', min: 0, max: Math.max(computed + reused, 1), value: reused,
                                  'aria-label': `${number(reused)} of ${tokens(computed + reused)} reused`});
  return element('div', {}, share, line, note ? element('p', {class: 'note', text: note}) : null);
}

export class TurnsView {
  constructor(node, actions) {
    this.node = node;
    this.actions = actions;
    this.editing = null;
  }

  render(conversation, modelName, busy) {
    this.conversation = conversation;
    const focused = this.node.contains(document.activeElement) ? document.activeElement.dataset.focus : undefined;
    const path = conversation.pathTo(conversation.tip);
    const turns = path.map((turn, index) => this.#turn(turn, index, path.length, modelName, busy));
    const atEnd = this.atEnd();
    this.node.replaceChildren(...turns);
    if (atEnd) this.toEnd();
    this.node.classList.toggle('text', conversation.mode === 'text');
    if (focused) this.node.querySelector(`[data-focus="${CSS.escape(focused)}"]`)?.focus();
  }

  // The one piece that changes while a reply is written.
  append(turn, piece) {
    const text = this.node.querySelector(`#${turn.id} .words`);
    if (!text) return;
    const atEnd = this.atEnd();
    text.textContent = (text.textContent + piece).trimStart();
    if (atEnd) this.toEnd();
  }

  atEnd() {
    return this.node.scrollHeight - this.node.scrollTop - this.node.clientHeight < 80;
  }

  toEnd() {
    this.node.scrollTop = this.node.scrollHeight;
  }

  #turn(turn, index, count, modelName, busy) {
    if (turn.role === 'root') return this.#beginning(turn);
    const who = turn.role === 'user' ? 'You' : modelName;
    const writing = turn.status === 'writing';
    const label = `${turn.id}-who`;
    return element('article', {id: turn.id, class: `turn ${turn.role} ${turn.status}`, 'aria-labelledby': label,
                               'aria-busy': writing, 'aria-posinset': index + 1, 'aria-setsize': count},
      element('header', {},
        element('h3', {id: label, text: who}),
        turn.state?.alive ? element('span', {class: 'kept', text: `state kept at ${tokens(turn.state.position)}`}) : null,
        this.#switcher(turn, busy)),
      this.editing === turn ? this.#editor(turn)
        : element('p', {class: 'words', text: turn.text.trimStart()}),
      turn.status === 'stopped' ? element('p', {class: 'note', text: 'Stopped here. No state is kept behind it.'}) : null,
      turn.usage ? costOf(turn) : null,
      writing || this.editing === turn ? null : this.#buttons(turn, busy));
  }

  #beginning(turn) {
    return element('article', {id: turn.id, class: 'turn root'},
      element('h3', {text: 'A state from a file'}),
      element('p', {text: `It stands behind ${tokens(turn.state.position)} that are not known here. What you write goes on from it.`}));
  }

  #button(turn, name, text, busy, act, extra = {}) {
    return element('button', {type: 'button', 'data-focus': `${turn.id}-${name}`, class: 'quiet', text, disabled: busy,
                              onclick: () => act(turn), ...extra});
  }

  #switcher(turn, busy) {
    const siblings = this.conversation.siblings(turn);
    if (siblings.length < 2) return null;
    const at = siblings.indexOf(turn);
    const to = (step) => () => this.actions.visit(siblings[(at + step + siblings.length) % siblings.length]);
    return element('div', {class: 'switcher', role: 'group', 'aria-label': 'Branches of this turn'},
      this.#button(turn, 'before', '‹', busy, to(-1), {'data-focus': `${turn.parent}-before`, 'aria-label': 'The branch before', 'aria-keyshortcuts': 'Alt+J'}),
      element('span', {text: `${at + 1} of ${siblings.length}`}),
      this.#button(turn, 'after', '›', busy, to(1), {'data-focus': `${turn.parent}-after`, 'aria-label': 'The next branch', 'aria-keyshortcuts': 'Alt+K'}));
  }

  #buttons(turn, busy) {
    const {edit, again, answer, branch, saveState} = this.actions;
    return element('div', {class: 'buttons'},
      this.#button(turn, 'edit', 'Edit', busy, edit),
      turn.role === 'user' && turn.children.length === 0 ? this.#button(turn, 'answer', 'Answer', busy, answer) : null,
      turn.role === 'assistant' ? this.#button(turn, 'again', 'Regenerate', busy, again) : null,
      turn.role === 'assistant' ? this.#button(turn, 'branch', 'Branch here', busy, branch) : null,
      turn.state?.alive ? this.#button(turn, 'state', 'Save state', busy, saveState) : null);
  }

  #editor(turn) {
    const field = element('textarea', {id: 'edit', rows: Math.min(12, turn.text.split('\n').length + 1),
                                       'aria-label': 'The turn\'s new text'});
    field.value = turn.text;
    const done = () => this.actions.edited(turn, field.value);
    const cancel = () => this.actions.edited(turn, null);
    field.addEventListener('keydown', (event) => {
      if (event.key === 'Enter' && !event.shiftKey && !event.isComposing) done();
      else if (event.key === 'Escape') cancel();
      else return;
      event.preventDefault();
      event.stopPropagation();
    });
    return element('div', {class: 'editor'}, field,
      element('p', {class: 'hint', text: 'The old turn stays, on a branch of its own.'}),
      element('div', {class: 'row end'},
        element('button', {type: 'button', class: 'quiet', text: 'Cancel', onclick: cancel}),
        element('button', {type: 'button', class: 'primary', text: turn.role === 'user' ? 'Send as a branch' : 'Keep as a branch', onclick: done})));
  }
}
