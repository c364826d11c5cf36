// Reads a streamed reply out in whole sentences: a screen reader that is told of every token says none of them.
import {element} from './dom.js';

const SENTENCES = /^[\s\S]*(?:[.!?]["'”’)]?\s|\n)/;  // up to the end of the last whole one

export class Announcer {
  #waiting = '';

  constructor(node) {
    this.node = node;
  }

  say(text) {
    if (!/[\p{L}\p{N}]/u.test(text)) return;  // a lone quotation mark says nothing
    this.node.append(element('p', {text: text.trim()}));
    while (this.node.childElementCount > 20) this.node.firstElementChild.remove();
  }

  piece(text) {
    this.#waiting += text;
    const whole = SENTENCES.exec(this.#waiting)?.[0];
    if (!whole) return;
    this.say(whole);
    this.#waiting = this.#waiting.slice(whole.length);
  }

  end(text) {
    this.say(this.#waiting);
    this.#waiting = '';
    this.say(text);
  }
}
