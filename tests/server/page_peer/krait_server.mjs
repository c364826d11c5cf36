// A krait server on a free port of loopback, for tests in Node.
import {spawn} from 'node:child_process';
import {once} from 'node:events';
import {createInterface} from 'node:readline';

export async function serve(...options) {
  const child = spawn(process.env.KRAIT_BINARY, ['serve', '--port', '0', '--quiet', ...options.map(String)]);
  let complaints = '';
  child.stderr.on('data', (data) => { complaints += data; });
  const end = once(child, 'exit');
  // Also where a test throws before it could stop the server.
  const kill = () => child.kill('SIGKILL');
  process.once('exit', kill);
  for await (const line of createInterface({input: child.stdout})) {
    const found = /http:\/\/127\.0\.0\.1:\d+/.exec(line);
    if (!found) continue;
    child.stdout.resume();
    return new Server(found[0], child, end, kill);
  }
  throw new Error(`krait serve did not start: ${complaints}`);
}

class Server {
  constructor(url, child, end, kill) {
    Object.assign(this, {url, child, end, kill});
  }

  async ask(method, path, body, headers = {}) {
    const answer = await fetch(this.url + path, {method, headers, body: body === undefined ? undefined : JSON.stringify(body)});
    const text = await answer.text();
    return {status: answer.status, headers: answer.headers, json: answer.headers.get('content-type') === 'application/json' ? JSON.parse(text) : null, text};
  }

  async post(path, body) {
    const {status, json, text} = await this.ask('POST', path, body);
    if (status >= 300) throw new Error(`POST ${path}: ${status} ${text}`);
    return json;
  }

  async metric(line) {
    const {text} = await this.ask('GET', '/metrics');
    return Number(text.split('\n').find((one) => one.startsWith(`${line} `))?.split(' ').at(-1));
  }

  async tokens(text, atStart = false) {
    return (await this.post('/tokenize', {prompt: text, add_special_tokens: atStart})).count;
  }

  async stop() {
    this.child.kill('SIGTERM');
    const [status] = await this.end;
    process.removeListener('exit', this.kill);
    return status;
  }
}
