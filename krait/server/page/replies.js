// Has the server write one turn: from the nearest state that it keeps, or from the whole history, and says which.
import * as api from './api.js';

const GONE = 'A kept state had expired, so ';

function requestFor(conversation, turn, settings) {
  const parent = conversation.parentOf(turn);
  const byState = settings.how === 'state' || conversation.needsState();
  const {from, after} = byState ? conversation.startFor(parent) : {from: null, after: conversation.pathTo(parent)};
  if (from === null && conversation.needsState()) {
    throw new Error('The state that this conversation begins from has expired, and its text is not known: load its file again.');
  }
  const body = {
    temperature: settings.temperature, max_tokens: settings.maxTokens, return_state: true, stream: true,
    stream_options: {include_usage: true},
  };
  if (settings.seed !== null) body.seed = settings.seed;
  if (from) body.state = from.state.id;
  if (conversation.mode === 'text') {
    body.prompt = after.map((one) => one.text).join('');
    return {path: '/v1/completions', body, from};
  }
  body.messages = after.map(({role, text}) => ({role, content: text}));
  if (!from && conversation.system) body.messages.unshift({role: 'system', content: conversation.system});
  return {path: '/v1/chat/completions', body, from};
}

async function read(turn, request, signal, onText) {
  const begun = performance.now();
  let last = 0, usage = null, why = '', finish = '', note = '';
  for await (const event of api.stream(request.path, request.body, signal)) {
    if (event.error) {
      // The text was whole by then where only its state could not be kept.
      if (!turn.text) throw new api.ApiError(0, event.error);
      note = `The state behind it is not kept: ${event.error.message}.`;
      break;
    }
    const choice = event.choices?.[0];
    const piece = choice?.delta?.content ?? choice?.text ?? '';
    if (piece) {
      last = performance.now();
      turn.text += piece;
      onText(piece);
    }
    if (choice?.finish_reason) finish = choice.finish_reason;
    if (choice?.state) {
      const {id, bytes, position} = choice.state;
      turn.state = {id, bytes, position, alive: true};
    }
    if (event.usage) {
      usage = event.usage;
      why = event.cache ?? '';
    }
  }
  const cached = usage?.prompt_tokens_details?.cached_tokens ?? 0;
  const generated = usage?.completion_tokens ?? 0;
  return {
    computed: (usage?.prompt_tokens ?? 0) - cached,
    reused: cached + (request.from?.state.position ?? 0),
    generated, why, finish, note,
    rate: last > begun ? generated / (last - begun) * 1000 : 0,  // reading what came before it included
  };
}

// Fills the turn. Throws AbortError where it was stopped, with the text up to there kept.
export async function writeReply({conversation, turn, settings, states, signal, onText}) {
  turn.status = 'writing';
  let expired = false;
  try {
    await states.makeRoom(conversation);
    for (;;) {
      const request = requestFor(conversation, turn, settings);
      try {
        const usage = await read(turn, request, signal, onText);
        if (expired) {
          usage.note = GONE + (request.from ? 'an older one was used and what follows it sent again.' : 'the history was sent again.');
        }
        turn.usage = usage;
        turn.status = 'done';
        return;
      } catch (error) {
        if (error.status !== 404 || !request.from || turn.text) throw error;
        expired = true;
        await states.refresh(conversation);
        request.from.state.alive = false;
      }
    }
  } catch (error) {
    turn.status = error.name === 'AbortError' ? 'stopped' : 'failed';
    throw error;
  }
}
