// Conversations and states as files, and the conversation of this tab across a reload.
import {Conversation} from './conversation.js';
import {offerFile, tokens} from './dom.js';

const TAB = 'krait.conversation';
const MOST_BYTES = 64 * 2 ** 20;  // of a conversation; a state may be larger

export function saveConversation(conversation) {
  offerFile('conversation.json', JSON.stringify(conversation.toJson(), null, 1), 'application/json');
}

export function rememberInTab(conversation) {
  try {
    sessionStorage.setItem(TAB, JSON.stringify(conversation.toJson()));
  } catch {
    sessionStorage.removeItem(TAB);  // too large for the browser: a reload begins anew
  }
}

export function recallFromTab() {
  try {
    return Conversation.fromJson(JSON.parse(sessionStorage.getItem(TAB)));
  } catch {
    return null;
  }
}

// {conversation, words}: what is to be shown after a file was loaded. A state goes to the turn it was saved at, where
// the conversation at hand has that turn, and begins a new conversation otherwise.
export async function loadFile(file, conversation, states) {
  if (file.name.endsWith('.state')) {
    const kept = await states.upload(file);
    const state = {id: kept.id, bytes: kept.bytes, position: kept.position, alive: true};
    const turn = [...conversation.turns.values()].find((one) => one.state?.id === kept.id && one.state.position === kept.position);
    if (turn) {
      turn.state = state;
      conversation.visit(turn);
      return {conversation, words: `The state is back behind its turn, at ${tokens(kept.position)}.`};
    }
    const fresh = new Conversation(conversation.mode);
    fresh.root.state = state;
    return {conversation: fresh, words: `A new conversation goes on from the state, after ${tokens(kept.position)}.`};
  }
  if (file.size > MOST_BYTES) throw new Error(`${file.name} is larger than a conversation may be`);
  let json;
  try {
    json = JSON.parse(await file.text());
  } catch {
    throw new Error(`${file.name} is no JSON`);
  }
  const loaded = Conversation.fromJson(json);
  await states.refresh(loaded);
  const living = states.living(loaded).length;
  const lost = [...loaded.turns.values()].filter((turn) => turn.state && !turn.state.alive).length;
  return {conversation: loaded, words: `Loaded ${loaded.turns.size - 1} turns. The server has the states of ${living}` +
      (lost ? `; ${lost} have expired: load their files, or the history is sent again.` : '.')};
}
