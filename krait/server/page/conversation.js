// A conversation as a tree of turns: no network, no elements. Turns are never changed once they are whole: editing one
// or answering it again makes a sibling, so that every branch can be gone back to.
//
// A turn: {id, parent, children, role, text, status, state, usage}. `role` is "root", "user" or "assistant"; `state` is
// what the server keeps behind it ({id, bytes, position, alive}), `usage` what the reply cost.

export class Conversation {
  constructor(mode = 'chat') {
    this.mode = mode;
    this.system = '';
    this.turns = new Map();
    this.next = 1;
    this.root = this.#make(null, 'root', '');
    this.tip = this.root;  // the end of the path that is shown
  }

  #make(parent, role, text) {
    const turn = {
      id: `t${this.next++}`, parent: parent?.id ?? null, children: [], role, text, status: 'done', state: null, usage: null,
    };
    this.turns.set(turn.id, turn);
    return turn;
  }

  parentOf(turn) {
    return turn.parent === null ? null : this.turns.get(turn.parent);
  }

  childrenOf(turn) {
    return turn.children.map((id) => this.turns.get(id));
  }

  add(parent, role, text) {
    const turn = this.#make(parent, role, text);
    parent.children.push(turn.id);
    this.branchAt(turn);
    return turn;
  }

  // From the root (which is left out, unless a state stands in it) to a turn.
  pathTo(turn) {
    const path = [];
    for (let at = turn; at !== null; at = this.parentOf(at)) path.unshift(at);
    return path[0].state ? path : path.slice(1);
  }

  siblings(turn) {
    const parent = this.parentOf(turn);
    return parent === null ? [turn] : this.childrenOf(parent);
  }

  // Shows the branch that this turn is on, to its newest end.
  visit(turn) {
    let end = turn;
    while (end.children.length > 0) end = this.turns.get(end.last) ?? this.turns.get(end.children.at(-1));
    this.tip = end;
    this.#rememberPath();
  }

  // Ends the shown path here, so that what is written next makes a branch.
  branchAt(turn) {
    this.tip = turn;
    this.#rememberPath();
  }

  #rememberPath() {
    for (let at = this.tip; at.parent !== null; at = this.parentOf(at)) this.parentOf(at).last = at.id;
  }

  // The nearest turn at or above this one behind which the server has a state, and the turns after it.
  startFor(turn) {
    const after = [];
    for (let at = turn; at !== null; at = this.parentOf(at)) {
      if (at.state?.alive) return {from: at, after};
      if (at.role !== 'root') after.unshift(at);
    }
    return {from: null, after};
  }

  // What a whole history is impossible without: the state of a text that was never seen here.
  needsState() {
    return this.root.state !== null;
  }

  get empty() {
    return this.root.children.length === 0 && this.root.state === null;
  }

  toJson() {
    const turns = [...this.turns.values()].map((turn) => ({...turn, status: turn.status === 'writing' ? 'stopped' : turn.status}));
    return {format: 'krait-conversation', version: 1, mode: this.mode, system: this.system, tip: this.tip.id, turns};
  }

  // Throws with a sentence for what is no conversation. Takes nothing on trust: ids, links and types are looked at.
  static fromJson(json) {
    if (json?.format !== 'krait-conversation' || json.version !== 1) throw new Error('this is no conversation of krait');
    if (!Array.isArray(json.turns) || json.turns.length === 0) throw new Error('the conversation holds no turns');
    const conversation = new Conversation(json.mode === 'text' ? 'text' : 'chat');
    conversation.system = typeof json.system === 'string' ? json.system : '';
    conversation.turns.clear();
    for (const [index, given] of json.turns.entries()) {
      const {id, parent = null, role, text} = given;
      const fits = typeof id === 'string' && /^t\d{1,9}$/.test(id) && typeof text === 'string' &&
          (index === 0 ? role === 'root' && parent === null : ['user', 'assistant'].includes(role));
      if (!fits || conversation.turns.has(id)) throw new Error(`turn ${index + 1} of the conversation is damaged`);
      // Parents come first, so that there is no ring.
      const above = index === 0 ? null : conversation.turns.get(parent);
      if (above === undefined) throw new Error(`turn ${index + 1} of the conversation follows none that came before`);
      const turn = {id, parent, children: [], role, text, status: given.status === 'stopped' ? 'stopped' : 'done',
                    state: stateOf(given.state), usage: usageOf(given.usage)};
      conversation.turns.set(id, turn);
      above?.children.push(id);
      conversation.next = Math.max(conversation.next, Number(id.slice(1)) + 1);
      if (index === 0) conversation.root = turn;
    }
    conversation.tip = conversation.turns.get(json.tip) ?? [...conversation.turns.values()].at(-1);
    return conversation;
  }
}

function stateOf(given) {
  if (!given || typeof given.id !== 'string' || !/^[\w-]{1,64}$/.test(given.id)) return null;
  return {id: given.id, bytes: Number(given.bytes) || 0, position: Number(given.position) || 0, alive: false};
}

function usageOf(given) {
  if (!given) return null;
  const usage = {};
  for (const name of ['computed', 'reused', 'generated', 'rate']) usage[name] = Number(given[name]) || 0;
  for (const name of ['why', 'note', 'finish']) usage[name] = String(given[name] ?? '');
  return usage;
}
