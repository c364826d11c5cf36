// One conversation in the making: what the buttons and keys do to it, and a reply being written. It knows the views
// only as things to be shown again.
import {tokens} from './dom.js';
import {writeReply} from './replies.js';

export class Session {
  constructor({conversation, states, settings, show, turnsView, announcer, notice, failed}) {
    Object.assign(this, {conversation, states, settings, show, turnsView, announcer, notice, failed});
    this.stopper = null;
    this.renewal = null;  // of the state that was branched at: its id changes
  }

  get busy() {
    return this.stopper !== null;
  }

  replace(conversation) {
    this.stop();
    this.conversation = conversation;
    this.show();
  }

  setMode(mode) {
    if (this.busy || mode === this.conversation.mode) return;
    if (!this.conversation.empty) return this.notice('A conversation keeps its mode: “New” begins another.');
    this.conversation.mode = mode;
    this.show();
  }

  async send(text) {
    const {conversation} = this;
    if (this.busy) return;
    const {tip} = conversation;
    const goesOn = tip.role === 'user' || (conversation.mode === 'text' && (tip.role === 'assistant' || tip.state));
    if (!text.trim() && !goesOn) return this.notice('There is nothing to send yet.');
    const from = text.trim() === '' ? tip : conversation.add(tip, 'user', text);
    await this.#reply(from);
  }

  async again(turn) {
    if (!this.busy) await this.#reply(this.conversation.parentOf(turn));
  }

  async answer(turn) {
    if (!this.busy) await this.#reply(turn);
  }

  async edited(turn, text) {
    this.turnsView.editing = null;
    if (text === null || text === turn.text || !text.trim()) return this.show();
    const made = this.conversation.add(this.conversation.parentOf(turn), turn.role, text);
    if (turn.role === 'user') await this.#reply(made);
    else this.show();
  }

  edit(turn) {
    this.turnsView.editing = turn;
    this.show();
    document.getElementById('edit')?.focus();
  }

  visit(turn) {
    if (this.busy) return;
    this.conversation.visit(turn);
    this.show();
  }

  async branch(turn) {
    this.conversation.branchAt(turn);
    this.show();
    if (!turn.state?.alive) return;
    this.renewal = this.#renew(turn);
    await this.renewal;
    this.show();
  }

  async #renew(turn) {
    try {
      await this.states.renew(turn);
    } catch (error) {
      if (error.status !== 404) return this.failed(error);
      turn.state.alive = false;
      this.notice('The state of this turn has expired: what you write now sends the history again.');
    }
  }

  stop() {
    this.stopper?.abort();
  }

  async #reply(parent) {
    const {conversation, announcer} = this;
    const turn = conversation.add(parent, 'assistant', '');
    this.stopper = new AbortController();
    this.notice('');
    turn.status = 'writing';
    this.show();
    this.turnsView.toEnd();
    try {
      await this.renewal;
      await writeReply({
        conversation, turn, settings: this.settings(), states: this.states, signal: this.stopper.signal,
        onText: (piece) => {
          this.turnsView.append(turn, piece);
          announcer.piece(piece);
        },
      });
      const {computed, reused, why} = turn.usage;
      announcer.end(`The reply is complete. Computed ${tokens(computed)}, ${reused} reused: ${why}.`);
    } catch (error) {
      if (error.name === 'AbortError') announcer.end('Stopped.');
      else this.failed(error);
      if (!turn.text) this.#takeBack(turn, parent);
    } finally {
      this.stopper = null;
      this.show();
    }
  }

  // A reply that never began leaves nothing behind.
  #takeBack(turn, parent) {
    parent.children.pop();
    this.conversation.turns.delete(turn.id);
    this.conversation.branchAt(parent);
  }
}
