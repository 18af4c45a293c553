// What becomes of a session: played, searched, proven; and what the pages say when somebody has altered it.
import assert from 'node:assert/strict';
import { readFile, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { startBastion } from './bastion.mjs';
import { openBrowser } from './people.mjs';

let bastion;
let browser;
let person;

before(async () => {
  bastion = await startBastion();
  browser = await openBrowser(bastion.url);
  person = browser.page;
  await person.login(bastion.password);
});
after(async () => {
  await browser?.close();
  await bastion?.stop();
});

/** Runs commands in a terminal of its own and answers with the recording, once it is stored. */
async function record(...commands) {
  await person.openTerminal(await person.host('Online'));
  for (const [command, answer, patience] of commands) {
    await person.runs(command);
    await person.sees(answer, patience);
  }
  await person.runs('exit');
  await person.ended();
  const id = (await person.page.locator('.pane:not([hidden]) .ended a').getAttribute('href')).split('/').pop();
  return stored(id);
}

async function stored(id) {
  const deadline = Date.now() + 90_000;
  for (;;) {
    const recording = await (await person.page.request.get(`/api/v1/recordings/${id}`)).json();
    if (recording.state === 'stored') return recording;
    assert.ok(Date.now() < deadline, `the recording is ${recording.state}`);
    await person.page.waitForTimeout(200);
  }
}

/** Marks as a shell with OSC 133 makes them around a command that ends with `exit`. */
const marked = (command, answer, exit) =>
  String.raw`clear; printf '\033]133;A\007$ \033]133;B\007'; sleep 0.3; printf '${command}\r\n\033]133;C\007${answer}\r\n'; sleep 0.3; printf '\033]133;D;${exit}\007marked-%s\n' $((40 + ${exit}))`;

/** The line in which the page says what its check came to. */
const verdict = (text) => person.page.getByRole('heading', { name: text, level: 2 }).waitFor({ timeout: 60_000 });
const clock = () => person.page.locator('.ap-timer').first().innerText();
const picture = () => person.page.locator('.ap-term-text').innerText();

async function shows(pattern) {
  await person.page.waitForFunction((source) => new RegExp(source).test(document.querySelector('.ap-term-text')?.innerText ?? ''), pattern.source, { polling: 50, timeout: 30_000 }).catch(async () => assert.match(await picture(), pattern));
}

let short;

test('a recording is read, searched and proven', { timeout: 180_000 }, async (t) => {
  await t.test('it is stored soon after the session', async () => {
    short = await record([marked('make castle', '石の城堡 is built', 0), /marked-40/], [marked('make moat', 'no water', 2), /marked-42/], ['sleep 3; echo finally-$((3 * 3))', /finally-9/]);
    assert.equal(short.detail.segmented, false);
  });

  await t.test('the browser finds it authentic and whole by itself', async () => {
    await person.page.goto(`/recordings/${short.session_id}`);
    await person.page.locator('.ap-player').waitFor();
    await verdict('Authentic and whole');
    await person.page.getByText('What the seal says').click();
    await person.page.getByText(/^rec-/).waitFor();
    await person.shot('recording');
  });

  await t.test('a line of the transcript is the way to its moment', async () => {
    await person.page.getByRole('option').filter({ hasText: 'finally-9' }).last().click();
    await shows(/finally-9/);
    assert.notEqual(await clock(), '00:00');
  });

  await t.test('words are found, and Enter goes there', async () => {
    const field = person.page.getByLabel('Search the transcript');
    await field.fill('城堡 is');
    await person.page.getByText(/^1 of \d+$/).waitFor();
    await field.press('Enter');
    await person.page.getByRole('option', { selected: true }).filter({ hasText: '城堡 is built' }).waitFor();
    await shows(/城堡 is built/);
    assert.match(person.page.url(), /q=/);
    await field.fill('certainly not there');
    await person.page.getByText('Nothing found').waitFor();
    await person.shot('recording-found');
  });

  await t.test('commands are listed with how they ended', async () => {
    await person.page.getByRole('tab', { name: 'Commands' }).click();
    const failed = person.page.getByRole('option').filter({ hasText: 'make moat' });
    await failed.getByText('exit 2').waitFor();
    await person.page.getByRole('option').filter({ hasText: 'make castle' }).getByText('ok').waitFor();
    await failed.click();
    await shows(/make moat/);
    assert.doesNotMatch(await picture(), /finally-9/);
    await person.shot('recording-commands');
  });

  await t.test('the address names a moment', async () => {
    const { t: moment } = (await (await person.page.request.get(`/api/v1/recordings/${short.session_id}/commands`)).json()).items.find(({ text }) => text.includes('moat'));
    await person.page.goto(`/recordings/${short.session_id}?t=${moment}&q=moat`);
    await shows(/make moat/);
    assert.equal(await person.page.getByLabel('Search the transcript').inputValue(), 'moat');
  });
});

test('what was on any screen is found, and opens at its moment', { timeout: 60_000 }, async () => {
  await person.page.goto('/recordings');
  await person.page.getByText('On the screen').click();
  await person.page.getByRole('searchbox').fill('城堡 IS');
  const line = person.page.getByRole('link').filter({ hasText: '城堡 is built' }).first();
  await line.waitFor();
  await person.page.getByText('Everything was searched.').waitFor();
  await person.shot('recordings-search');
  await line.click();
  await person.page.waitForURL(/\/recordings\/.+\?t=/);
  await shows(/城堡 is built/);
  await person.page.getByRole('option').filter({ hasText: '城堡 is built' }).locator('mark').first().waitFor();
});

test('a long recording is played in pieces and proven all the same', { timeout: 300_000 }, async (t) => {
  let long;
  await t.test('more than 4 MiB are cut into pieces', async () => {
    long = await record(['seq -f "line-%.0f of a long recording" 1 190000; echo seen-$((5 * 5))', /seen-25/, 120_000]);
    assert.equal(long.detail.segmented, true, `${long.plain_size} bytes`);
  });

  await t.test('the first picture comes quickly, and any moment', async () => {
    const asked = [];
    const ask = (request) => asked.push(new URL(request.url()).pathname);
    person.page.on('request', ask);
    await person.page.goto(`/recordings/${long.session_id}`);
    await person.page.locator('.ap-overlay-start').waitFor();
    const field = person.page.getByLabel('Search the transcript');
    await field.fill('line-189990 of');
    await person.page.getByText('1 of 1').waitFor({ timeout: 30_000 });
    const sought = performance.now();
    await field.press('Enter');
    await shows(/line-189990 of/);
    t.diagnostic(`jump to the end: ${Math.round(performance.now() - sought)} ms`);
    person.page.off('request', ask);
    assert.ok(asked.some((path) => path.endsWith('/segments/index.json')));
    await person.shot('recording-long');
  });

  await t.test('the browser finds it whole, and that what it played is of it', async () => {
    await verdict('Authentic and whole');
    await person.page.getByText('The pieces that are played are held against them').waitFor();
  });
});

test('an altered recording is called so, and the rest of the page lives', { timeout: 120_000 }, async (t) => {
  const folder = join(bastion.data, 'recordings');
  const find = async (end) => join(folder, (await readdir(folder, { recursive: true })).find((name) => name.endsWith(`${short.session_id}${end}`)));
  const cast = await find('.cast.zst');
  const chunks = JSON.parse(await readFile(await find('.index.json'), 'utf8')).chunks;
  const { n, at, len } = chunks[Math.floor(chunks.length / 2)];

  await t.test('a byte that was flipped in the store is found, and its chunk named', async () => {
    const bytes = await readFile(cast);
    bytes[at + Math.floor(len / 2)] ^= 1;
    await writeFile(cast, bytes);
    const page = (person = await browser.another()).page;
    await page.goto(`/recordings/${short.session_id}`);
    await verdict(`Altered: chunk ${n}`);
    await page.getByRole('link', { name: `Altered: chunk ${n}` }).waitFor();
    await person.shot('recording-altered');
  });

  await t.test('who and when is still there, and so is the list', async () => {
    await person.page.getByText(short.session_id, { exact: true }).waitFor();
    await person.page.goto('/recordings');
    await person.page.locator(`a[href="/recordings/${short.session_id}"]`).first().waitFor();
  });
});

test('no page broke its content security policy', () => assert.deepEqual(browser.complaints, []));
