// Asks the server: JSON, bytes, and streams of server-sent events. The key stays in this tab.
const KEY = 'krait.key';

export class ApiError extends Error {
  constructor(status, error) {
    super(error.message);
    this.status = status;
    this.code = error.code ?? '';
  }
}

export const rememberKey = (key) => sessionStorage.setItem(KEY, key);

async function ask(method, path, {body, signal, type = 'application/json'} = {}) {
  const headers = {};
  const key = sessionStorage.getItem(KEY);
  if (key) headers.authorization = `Bearer ${key}`;
  if (body !== undefined) headers['content-type'] = type;
  let answer;
  try {
    answer = await fetch(path, {method, headers, body, signal, cache: 'no-store'});
  } catch (error) {
    if (error.name === 'AbortError') throw error;
    throw new ApiError(0, {message: 'the server does not answer'});
  }
  if (answer.ok) return answer;
  const text = await answer.text();
  let error = {message: `${method} ${path}: ${answer.status}`};
  try {
    error = JSON.parse(text).error ?? error;
  } catch {
    // What is no JSON came from something between here and the server.
  }
  throw new ApiError(answer.status, error);
}

export const get = async (path) => (await ask('GET', path)).json();
export const getText = async (path) => (await ask('GET', path)).text();
export const getBytes = async (path) => (await ask('GET', path)).arrayBuffer();
export const post = async (path, body) => (await ask('POST', path, {body: JSON.stringify(body)})).json();
export const drop = async (path) => (await ask('DELETE', path)).json();
export async function putBytes(path, content) {
  return (await ask('PUT', path, {body: content, type: 'application/octet-stream'})).json();
}

// The data of each event up to [DONE].
export async function* stream(path, body, signal) {
  const answer = await ask('POST', path, {body: JSON.stringify(body), signal});
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let waiting = '';
  for (;;) {
    const {value, done} = await reader.read();
    if (done) throw new ApiError(0, {message: 'the answer broke off'});
    waiting += value;
    const events = waiting.split('\n\n');
    waiting = events.pop();
    for (const event of events) {
      const data = event.split('\n').filter((line) => line.startsWith('data: ')).map((line) => line.slice(6)).join('\n');
      if (data === '[DONE]') return;
      if (data) yield JSON.parse(data);
    }
  }
}
