// The page as a reader uses it, in headless Chromium. Everything that the browser complains about, and every address
// that it asks, is kept for the tests.
import {chromium} from 'playwright-core';

export const launch = () => chromium.launch({
  executablePath: process.env.KRAIT_CHROMIUM,
  // Chromium's own sandbox does not start for root, as which containers run.
  args: process.getuid() === 0 ? ['--no-sandbox'] : [],
});

export class Reader {
  // `settings` are typed into the dialog: greedy and short unless told otherwise.
  static async open(browser, url, {settings = {}, context = {}, ready = true} = {}) {
    const reader = new Reader();
    reader.url = url;
    reader.context = await browser.newContext({viewport: {width: 1400, height: 900}, acceptDownloads: true, ...context});
    reader.page = await reader.context.newPage();
    reader.page.setDefaultTimeout(15000);
    reader.complaints = [];
    reader.asked = [];
    reader.page.on('pageerror', (error) => reader.complaints.push(error.message));
    reader.page.on('console', (message) => { if (message.type() === 'error') reader.complaints.push(message.text()); });
    reader.page.on('request', (request) => reader.asked.push(request.url()));
    await reader.page.goto(url);
    if (ready) await reader.set({temperature: 0, 'max-tokens': 24, ...settings});
    return reader;
  }

  async set(settings) {
    await this.page.waitForFunction(() => !document.getElementById('send').disabled);
    await this.page.click('#settings-open');
    for (const [id, value] of Object.entries(settings)) {
      if (id === 'how') await this.page.check(`input[name=how][value=${value}]`);
      else await this.page.fill(`#${id}`, String(value));
    }
    await this.page.click('#settings .primary');
  }

  // Until no reply is being written.
  async quiet() {
    await this.page.waitForFunction(() => document.getElementById('stop').hidden && !document.getElementById('send').disabled,
      null, {timeout: 30000});
  }

  async send(text) {
    await this.page.fill('#message', text);
    await this.page.press('#message', 'Enter');
    await this.quiet();
  }

  turn(number) {
    return this.page.locator(`#turns .turn:nth-child(${number})`);
  }

  press(number, button) {
    return this.turn(number).getByRole('button', {name: button}).click();
  }

  async words(number) {
    return (await this.turn(number).locator('.words').textContent());
  }

  // {computed, reused, generated, why} as the last turn says them.
  async cost(number) {
    const text = await this.turn(number).locator('.cost').textContent();
    const found = /^computed ([\d,]+) tokens?, ([\d,]+) reused(?:: (.*?))? · wrote ([\d,]+)/.exec(text);
    if (!found) throw new Error(`no cost: ${text}`);
    const count = (digits) => Number(digits.replaceAll(',', ''));
    return {computed: count(found[1]), reused: count(found[2]), why: found[3] ?? '', generated: count(found[4])};
  }

  count() {
    return this.page.locator('#turns .turn').count();
  }

  notice() {
    return this.page.locator('#notice').textContent();
  }

  // The file that a press of something offers.
  async download(press) {
    const [download] = await Promise.all([this.page.waitForEvent('download'), press()]);
    return download;
  }

  async load(...files) {
    for (const file of files) {
      await this.page.setInputFiles('#file', file);
      await this.page.waitForFunction(() => !/^$|^Loading /.test(document.getElementById('notice').textContent));
    }
  }

  screenshot(name) {
    return this.page.screenshot({path: `${process.env.KRAIT_SCREENSHOTS}/${name}.png`});
  }

  close() {
    return this.context.close();
  }
}
