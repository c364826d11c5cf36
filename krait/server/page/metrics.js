// Reads Prometheus' text format as /metrics writes it, and makes rates of its counters.

export class Samples {
  constructor(text) {
    this.samples = new Map();
    for (const line of text.split('\n')) {
      const found = /^([a-z_]+)(?:\{(.*)\})? (\S+)$/.exec(line);
      if (!found) continue;
      const labels = Object.fromEntries([...(found[2] ?? '').matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)].map(([, name, value]) => [name, value]));
      if (!this.samples.has(found[1])) this.samples.set(found[1], []);
      this.samples.get(found[1]).push({labels, value: Number(found[3])});
    }
  }

  all(name) {
    return this.samples.get(name) ?? [];
  }

  value(name, label, wanted) {
    return this.all(name).find(({labels}) => label === undefined || labels[label] === wanted)?.value ?? 0;
  }
}

// How fast a counter rises, over the last seconds, and how fast it has been.
export class Rate {
  #at = 0;
  #before = 0;
  history = [];

  add(count, now = performance.now()) {
    // The first sample has nothing before it; one that falls is of a server that began anew.
    if (this.#at > 0 && count >= this.#before) this.history.push((count - this.#before) / (now - this.#at) * 1000);
    this.#at = now;
    this.#before = count;
    if (this.history.length > 60) this.history.shift();
  }

  get now() {
    return this.history.at(-1) ?? 0;
  }
}
