// Keys of the page. Letters go by their place on the board, since Alt changes what they write on some systems.
import {byId, element} from './dom.js';

const SHORTCUTS = [
  {keys: ['Enter'], words: 'send what is written'},
  {keys: ['Shift', 'Enter'], words: 'break the line'},
  {keys: ['Esc'], words: 'stop the reply', code: 'Escape', act: 'stop'},
  {keys: ['Alt', 'M'], words: 'to the message field', code: 'KeyM', act: 'toMessage'},
  {keys: ['Alt', 'R'], words: 'answer the last turn again', code: 'KeyR', act: 'again'},
  {keys: ['Alt', 'E'], words: 'edit your last turn', code: 'KeyE', act: 'edit'},
  {keys: ['Alt', 'B'], words: 'branch at the last reply but one', code: 'KeyB', act: 'branch'},
  {keys: ['Alt', 'J'], words: 'the branch before', code: 'KeyJ', act: 'before'},
  {keys: ['Alt', 'K'], words: 'the next branch', code: 'KeyK', act: 'after'},
  {keys: ['Alt', 'T'], words: 'to the tree; there ↑ ↓ ← → and Enter', code: 'KeyT', act: 'toTree'},
  {keys: ['?'], words: 'this list', act: 'help'},
];

const writing = (node) => node.closest('input, textarea, select') !== null;

export function startShortcuts(actions) {
  byId('key-list').replaceChildren(...SHORTCUTS.flatMap(({keys, words}) => [
    element('dt', {}, ...keys.map((key) => element('kbd', {text: key}))), element('dd', {text: words})]));
  const help = () => byId('keys').showModal();
  byId('keys-open').addEventListener('click', help);
  document.addEventListener('keydown', (event) => {
    if (document.querySelector('dialog[open]') || event.ctrlKey || event.metaKey || event.isComposing) return;
    if (event.key === '?' && !writing(event.target)) {
      event.preventDefault();
      return help();
    }
    const found = SHORTCUTS.find(({code, keys}) => code === event.code && (keys[0] === 'Alt') === event.altKey);
    if (!found) return;
    event.preventDefault();
    actions[found.act]();
  });
}
