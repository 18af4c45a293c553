// A person at a browser: what they do on the pages, in their words.
import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import { chromium } from 'playwright-core';
import { ARGS, EXECUTABLE } from './browser.mjs';

const SHOTS = process.env.CASTELLAN_SHOTS;
if (SHOTS) mkdirSync(SHOTS, { recursive: true });

export async function openBrowser(url) {
  const browser = await chromium.launch({ executablePath: EXECUTABLE, args: ARGS });
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, baseURL: url });
  // With screen reader support on, the terminal's text is in the document, whichever way it is drawn.
  await context.addInitScript(() => localStorage.setItem('castellan.terminal', JSON.stringify({ screenReader: true })));
  // The page's sockets, for a test to cut; closing one from here looks like a network that went away.
  await context.addInitScript(() => {
    window.sockets = [];
    window.WebSocket = class extends WebSocket {
      constructor(...given) {
        super(...given);
        window.sockets.push(this);
      }
    };
  });
  const complaints = [];
  const opened = async () => {
    const page = await context.newPage();
    page.on('pageerror', (error) => complaints.push(String(error)));
    page.on('console', (message) => {
      if (/Content Security Policy/i.test(message.text())) complaints.push(message.text());
    });
    return new Person(page);
  };
  return { page: await opened(), another: opened, complaints, close: () => browser.close() };
}

class Person {
  constructor(page) {
    this.page = page;
  }

  async shot(name) {
    if (SHOTS) await this.page.screenshot({ path: `${SHOTS}/${name}.png` });
  }

  async login(password) {
    await this.page.goto('/');
    await this.page.getByLabel('User name').fill('admin');
    await this.page.getByLabel('Password', { exact: true }).fill(password);
    await this.page.getByRole('button', { name: 'Sign in' }).click();
    await this.page.getByRole('heading', { name: 'Hosts', level: 1 }).waitFor();
  }

  /** The row of a host, found by words in it and words not in it, once it may be opened. */
  async host(words, without) {
    await this.page.goto('/hosts');
    const row = this.page.getByRole('listitem').filter({ hasText: words, hasNotText: without }).filter({ has: this.page.getByRole('link', { name: 'Open terminal' }) }).first();
    await row.getByText('Online').waitFor({ timeout: 60_000 });
    return row;
  }

  /** Opens a terminal and waits for its prompt; answers with the milliseconds that took. */
  async openTerminal(row) {
    const clicked = performance.now();
    await row.getByRole('link', { name: 'Open terminal' }).click();
    await this.#shown('[data-phase="open"]');
    await this.sees(/[$#%>]/);
    return Math.round(performance.now() - clicked);
  }

  /** Cuts every socket this page has. */
  cut() {
    return this.page.evaluate(() => {
      for (const socket of window.sockets) socket.close();
    });
  }

  /** Until the terminal that is shown is connected, for the first time or again. */
  connected() {
    return this.#shown('[data-phase="open"]');
  }

  async #shown(selector) {
    await this.page.locator(`.pane:not([hidden]) ${selector}`).waitFor({ timeout: 30_000 });
  }

  /** The text on the terminal that is shown. */
  screen() {
    return this.page.locator('.pane:not([hidden]) .xterm-accessibility-tree').evaluate((tree) => [...tree.children].map((row) => row.textContent ?? '').join('\n').replaceAll('\u00a0', ' '));
  }

  async sees(pattern, timeout = 20_000) {
    const deadline = Date.now() + timeout;
    let text = '';
    while (Date.now() < deadline) {
      text = await this.screen().catch(() => '');
      if (pattern.test(text)) return text.match(pattern);
      await this.page.waitForTimeout(50);
    }
    return assert.fail(`the terminal never showed ${pattern}:\n${text}`);
  }

  /** Types; what no key has is composed and committed, as an input method does it. */
  async types(text) {
    for (const run of text.match(/[\x20-\x7e]+|[^\x20-\x7e]+/g) ?? []) {
      if (/[\x20-\x7e]/.test(run)) await this.page.keyboard.type(run);
      else await this.#composes(run);
    }
  }

  async #composes(text) {
    this.input ??= await this.page.context().newCDPSession(this.page);
    await this.input.send('Input.imeSetComposition', { text: 'pinyin', selectionStart: 6, selectionEnd: 6 });
    await this.input.send('Input.imeSetComposition', { text, selectionStart: text.length, selectionEnd: text.length });
    await this.input.send('Input.insertText', { text });
    // xterm.js takes a composition over in a task of its own.
    await this.page.evaluate(() => new Promise((resolve) => setTimeout(resolve)));
  }

  async runs(command) {
    await this.types(command);
    await this.page.keyboard.press('Enter');
  }

  /** Until a program that drew on the other screen is gone: one that is leaving drops what is typed to it. */
  prompted(program) {
    return this.sees(new RegExp(`${program}\\s*\\n[^\\n]*[$#%>]\\s*$`));
  }

  async ended() {
    await this.#shown('[data-phase="ended"]');
    return this.page.locator('.pane:not([hidden]) .ended').innerText();
  }

  /** "Try it out" in the API reference; answers with the status and the body shown. */
  async tries(method, path, { query = {}, body } = {}) {
    const block = this.page.locator(`.opblock-${method}`).filter({ has: this.page.locator(`[data-path="${path}"]`) });
    await block.locator('.opblock-summary').first().click();
    await block.getByRole('button', { name: 'Try it out' }).click();
    for (const [name, value] of Object.entries(query)) {
      const field = block.locator(`tr[data-param-name="${name}"]`).locator('input, select').first();
      if (await field.evaluate((element) => element.tagName === 'SELECT')) await field.selectOption(value);
      else await field.fill(value);
    }
    if (body) await block.locator('textarea').fill(JSON.stringify(body));
    await block.getByRole('button', { name: 'Execute' }).click();
    const answer = block.locator('.live-responses-table .response').first();
    await answer.locator('.response-col_status').waitFor();
    const status = Number.parseInt(await answer.locator('.response-col_status').innerText(), 10);
    const text = await answer.locator('.response-col_description pre, .response-col_description .microlight').first().innerText();
    await block.locator('.opblock-summary').first().scrollIntoViewIfNeeded();
    return { status, body: JSON.parse(text) };
  }
}
