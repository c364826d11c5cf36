// Puts the page together: asks the server what it serves, and ties fields, buttons and views to the session.
import * as api from './api.js';
import {Announcer} from './announcer.js';
import {Conversation} from './conversation.js';
import {byId, bytes, tokens} from './dom.js';
import {KeptStates} from './kept_states.js';
import {LivePanel} from './live_panel.js';
import {loadFile, recallFromTab, rememberInTab, saveConversation} from './saving.js';
import {Session} from './session.js';
import {readSettings, startSettings} from './settings.js';
import {startShortcuts} from './shortcuts.js';
import {startTheme} from './theme.js';
import {TreeView} from './tree_view.js';
import {TurnsView} from './turns_view.js';

let info = null;
const message = byId('message');
const states = new KeptStates();
const panel = new LivePanel(byId('live'));
const announcer = new Announcer(byId('announcer'));

function notice(text, bad = false) {
  byId('notice').textContent = text;
  byId('notice').classList.toggle('bad', bad);
}

function failed(error) {
  if (error.status === 401) {
    byId('key-form').hidden = false;
    byId('key').focus();
  }
  notice(error.message, true);
}

const actions = {
  edit: (turn) => session.edit(turn),
  edited: async (turn, text) => { await session.edited(turn, text); message.focus(); },
  answer: (turn) => { message.focus(); session.answer(turn); },
  again: (turn) => { message.focus(); session.again(turn); },
  branch: async (turn) => { await session.branch(turn); message.focus(); },
  visit: (turn) => session.visit(turn),
  saveState: (turn) => states.download(turn).catch(failed),
};
const turnsView = new TurnsView(byId('turns'), actions);
const treeView = new TreeView(byId('tree'), (turn) => { session.visit(turn); view('turns'); });
const session = new Session({
  conversation: recallFromTab() ?? new Conversation(), states, turnsView, announcer, notice, failed, show,
  settings: () => ({...readSettings(info.limits.max_tokens), plain: !info.chat_template}),
});

function view(name) {
  document.body.dataset.view = name;
  for (const button of document.querySelectorAll('.views button')) {
    button.setAttribute('aria-pressed', String(button.dataset.view === name));
  }
}

// Says from what the next message goes on.
function fromWords({tip, mode, empty}) {
  if (empty) return '';
  const onward = mode === 'text' ? 'The text goes on' : 'Goes on';
  if (tip.state?.alive) return `${onward} from a kept state after ${tokens(tip.state.position)}.`;
  const start = session.conversation.startFor(tip);
  if (start.from) return `${onward} from a kept state after ${tokens(start.from.state.position)} and the turns since.`;
  return `${onward} from the history, which is sent again.`;
}

function show() {
  const {conversation, busy} = session;
  const text = conversation.mode === 'text';
  byId('mode-chat').setAttribute('aria-pressed', String(!text));
  byId('mode-text').setAttribute('aria-pressed', String(text));
  byId('mode-chat').disabled = byId('mode-text').disabled = busy;
  byId('message-label').textContent = text ? 'Text' : 'Message';
  message.placeholder = text ? (conversation.empty ? 'Once upon a time…' : 'More of yours, with a space before a new word; or nothing') : '';
  byId('send').textContent = text ? 'Continue' : 'Send';
  byId('send').disabled = busy || info === null;
  byId('stop').hidden = !busy;
  byId('from').textContent = fromWords(conversation);
  byId('system').value = conversation.system;
  turnsView.render(conversation, info?.model.id ?? 'model', busy);
  treeView.render(conversation, info?.model.id ?? 'model');
  panel.render(conversation);
  panel.soon();
  byId('save').disabled = conversation.empty || busy;
  byId('load').disabled = byId('new').disabled = busy;
  if (!busy) rememberInTab(conversation);
}

async function start() {
  info = await api.get('/v1/info');
  byId('key-form').hidden = true;
  notice('');
  const {model, state, chat_template: template, limits} = info;
  byId('model').textContent = `${model.id} · ${model.architecture}, ${(model.parameters / 1e6).toFixed(1)} M parameters in ${model.weights} · a state takes ${bytes(state.bytes)}`;
  byId('max-tokens').max = limits.max_tokens;
  states.most = Math.max(2, Math.min(states.most, Math.floor(state.most / 2)));
  if (session.conversation.empty) session.conversation.mode = template ? 'chat' : 'text';
  if (!template) byId('mode-chat').title = 'This model has no chat template: it is given "user: …" and "assistant:" in plain lines';
  await states.refresh(session.conversation).catch(failed);
  panel.start(info);
  show();
}

byId('composer').addEventListener('submit', (event) => {
  event.preventDefault();
  if (session.busy || info === null) return;
  const text = message.value;
  message.value = '';
  session.send(text);
});
message.addEventListener('keydown', (event) => {
  if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  byId('composer').requestSubmit();
});
byId('stop').addEventListener('click', () => { session.stop(); message.focus(); });
byId('key-form').addEventListener('submit', (event) => {
  event.preventDefault();
  api.rememberKey(byId('key').value);
  byId('key').value = '';
  start().then(() => message.focus(), failed);
});
byId('mode-chat').addEventListener('click', () => session.setMode('chat'));
byId('mode-text').addEventListener('click', () => session.setMode('text'));
byId('new').addEventListener('click', () => {
  if (session.conversation.empty) message.focus();
  else byId('anew').showModal();
});
byId('anew').addEventListener('close', async ({target}) => {
  if (target.returnValue !== 'anew') return;
  target.returnValue = '';
  await states.dropAll(session.conversation);
  session.replace(new Conversation(session.conversation.mode));
  message.focus();
});
byId('save').addEventListener('click', () => saveConversation(session.conversation));
byId('load').addEventListener('click', () => byId('file').click());
byId('file').addEventListener('change', async ({target}) => {
  const [file] = target.files;
  target.value = '';
  if (!file) return;
  notice(`Loading ${file.name}…`);
  try {
    const {conversation, words} = await loadFile(file, session.conversation, states);
    session.replace(conversation);
    notice(words);
  } catch (error) {
    failed(error);
  }
});
for (const button of document.querySelectorAll('.views button')) {
  button.addEventListener('click', () => view(button.dataset.view));
}

const path = () => session.conversation.pathTo(session.conversation.tip);
const lastOf = (role, skip = 0) => path().filter((turn) => turn.role === role).at(-1 - skip);
const branching = () => path().findLast((turn) => session.conversation.siblings(turn).length > 1);
function step(by) {
  const turn = branching();
  if (!turn) return;
  const siblings = session.conversation.siblings(turn);
  session.visit(siblings[(siblings.indexOf(turn) + by + siblings.length) % siblings.length]);
}
const onTurn = (act, turn) => { if (turn && !session.busy) act(turn); };
startShortcuts({
  stop: () => session.stop(),
  toMessage: () => { view('turns'); message.focus(); },
  again: () => onTurn(actions.again, lastOf('assistant')),
  edit: () => onTurn(actions.edit, lastOf('user')),
  branch: () => onTurn(actions.branch, lastOf('assistant', 1)),
  before: () => step(-1),
  after: () => step(1),
  toTree: () => { view('tree'); document.querySelector('#tree [tabindex="0"]')?.focus(); },
});
startTheme(byId('theme'));
startSettings((system) => { session.conversation.system = system; });
show();
start().catch(failed);
