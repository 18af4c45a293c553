// How long recordings take to show: real programs, a session that printed much, the real page in a real browser.
// Started by `scripts/bench playback`, which starts the programs and names them here.
import assert from 'node:assert/strict';
import { createWriteStream } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { finished } from 'node:stream/promises';
import { setTimeout as pause } from 'node:timers/promises';
import { chromium } from 'playwright-core';
import { ARGS, EXECUTABLE } from './browser.mjs';
import { Login } from './wire.mjs';

const BIGGEST = Number(process.env.BENCH_CAST_MB ?? 300);
const SIZES = [...new Set([1, 30, BIGGEST])].filter((megabytes) => megabytes <= BIGGEST);
const SMALL = Number(process.env.BENCH_SMALL ?? 1000);
const FIRST_MS = 500;
const SEEK_MS = 300;
/** What has not changed by then is the same picture. */
const SAME_MS = 5000;
/** Bytes of a cast for one that the text has: line ends, quotes and escapes grow. */
const GROWS = 1.15;
const NEEDLE = 'needle-in-the-last-line';
/** Megabytes of a cast that the baseline takes as one file: a larger one does not come through the browser's own door. */
const MOST_WHOLE = 50;
const MIB = 2 ** 20;

const rows = [];
const { CASTELLAN_URL: url, CASTELLAN_USER: username, CASTELLAN_PASSWORD: password, CASTELLAN_PID: pid } = process.env;
assert.ok(url && username && password && pid, 'scripts/bench playback says where the bastion is');
const home = await mkdtemp(join(tmpdir(), 'castellan-bench-'));
const browser = await chromium.launch({ executablePath: EXECUTABLE, args: [...ARGS, '--enable-precise-memory-info'] });
try {
  const login = await Login.as(url, username, password);
  const asset = await online(login);
  for (const megabytes of SIZES) await measure(login, asset, megabytes);
  if (SMALL > 0) await across(login, asset);
} catch (error) {
  // What was measured until then is still worth reading.
  figure('broken off', String(error).split('\n')[0]);
  process.exitCode = 1;
} finally {
  await browser.close();
  await rm(home, { recursive: true, force: true });
}
print();

async function measure(login, asset, megabytes) {
  const file = join(home, `${megabytes}.txt`);
  await write(file, (megabytes * 1e6) / GROWS);
  const memory = watchMemory();
  const id = await session(login, asset, `exec cat '${file}'`);
  const began = await cpu();
  const made = await stored(login, id);
  await settled();
  const derived = (await cpu()) - began;
  const casting = memory.stop();
  const name = `${megabytes} MB`;
  const { plain_size: plain, duration } = made;
  figure(`${name}: cast`, `${(plain / 1e6).toFixed(1)} MB, ${duration.toFixed(1)} s, ${(made.size / 1e6).toFixed(1)} MB stored`);
  figure(`${name}: bastion's CPU from its last byte until it is packed, stored and derived`, `${derived.toFixed(1)} s`);
  figure(`${name}: bastion's most memory meanwhile`, `${casting.most.toFixed(0)} MiB (${casting.before.toFixed(0)} before)`);
  await serving(login, id, name, duration);
  await page(id, name);
  if (megabytes <= MOST_WHOLE) await whole(id, name, duration);
}

/** What the server answers, without a page. */
async function serving(login, id, name, duration) {
  const memory = watchMemory();
  const timed = async (path) => {
    const began = performance.now();
    const bytes = await login.fetches(path);
    return { took: performance.now() - began, bytes };
  };
  const base = `/api/v1/recordings/${id}`;
  const near = [];
  for (let n = 0; n < 5; n += 1) near.push((await timed(`${base}/cast?from=${duration * 0.99}&to=${duration}`)).took);
  judged(`${name}: a window at the end`, near, SEEK_MS);
  const needle = await timed(`${base}/transcript?q=${NEEDLE}`);
  assert.ok(needle.bytes > 10, 'the last line is found');
  figure(`${name}: a word of the last line found in the transcript`, ms(needle.took));
  figure(`${name}: verify`, ms((await timed(`${base}/verify`)).took));
  figure(`${name}: whole transcript`, ms((await timed(`${base}/transcript?download`)).took));
  figure(`${name}: whole cast, plain`, ms((await timed(`${base}/cast`)).took));
  const { most, before } = memory.stop();
  figure(`${name}: bastion's most memory meanwhile`, `${most.toFixed(0)} MiB (${before.toFixed(0)} before)`);
}

/** The page: from the click to the first picture, then seeks to and fro. */
async function page(id, name) {
  const opened = [];
  let last;
  for (let n = 0; n < 5; n += 1) {
    await last?.context.close();
    last = await open(id);
    opened.push(last.took);
  }
  judged(`${name}: first frame`, opened, FIRST_MS);
  const there = await seeks(last.page, [4, 9, 1, 6, 2, 8, 3, 7, 5, 9]);
  const back = await seeks(last.page, [8, 7, 6, 5, 4, 3, 2, 1, 4, 2]);
  judged(`${name}: seek, ${there.length + back.length} of 20 to another picture`, [...there, ...back], SEEK_MS);
  const heap = await heapOf(last.page);
  figure(`${name}: the page's heap, bytes fetched`, `${heap.toFixed(0)} MiB, ${(last.fetched() / 1e6).toFixed(1)} MB`);
  await last.context.close();
}

async function open(id) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, baseURL: url });
  const signed = await context.newPage();
  await signed.goto('/');
  await signed.evaluate(async (who) => {
    await fetch('/api/v1/login', { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(who) });
  }, { username, password });
  await signed.close();
  const page = await context.newPage();
  let fetched = 0;
  const wire = await context.newCDPSession(page);
  await wire.send('Network.enable');
  wire.on('Network.loadingFinished', ({ encodedDataLength }) => (fetched += encodedDataLength));
  await page.addInitScript(noticePictures);
  await page.goto(`/recordings/${id}`, { waitUntil: 'commit' });
  await page.waitForFunction(() => window.pictured !== undefined, null, { polling: 20, timeout: 120_000 });
  // From the start of the navigation, on the page's own clock.
  return { context, page, took: await page.evaluate(() => window.pictured), fetched: () => fetched };
}

/** Runs in the page: notes when the player first shows text. */
function noticePictures() {
  const look = () => {
    const text = document.querySelector('.ap-term-text')?.textContent ?? '';
    if (text.trim()) window.pictured = performance.now();
    else requestAnimationFrame(look);
  };
  requestAnimationFrame(look);
}

/** Each seek by the key of its tenth, as people do it; done when the terminal shows another picture. */
async function seeks(page, tenths) {
  const took = [];
  await page.locator('.ap-wrapper').focus();
  for (const tenth of tenths) {
    await page.evaluate(() => {
      const shown = () => document.querySelector('.ap-term-text')?.textContent;
      const before = shown();
      window.sought = undefined;
      addEventListener('keydown', () => {
        const began = performance.now();
        const look = () => {
          if (shown() !== before) window.sought = performance.now() - began;
          else requestAnimationFrame(look);
        };
        requestAnimationFrame(look);
      }, { once: true, capture: true });
    });
    await page.keyboard.press(String(tenth));
    const changed = page.waitForFunction(() => window.sought !== undefined, null, { polling: 20, timeout: SAME_MS });
    // Before a shell first prints, every moment shows the same.
    if (await changed.then(() => true, () => false)) took.push(await page.evaluate(() => window.sought));
  }
  return took;
}

/** The same cast as one file in the same player: what it would take without segments. */
async function whole(id, name, duration) {
  const page = await browser.newPage({ baseURL: url });
  const dist = new URL('../node_modules/asciinema-player/dist/bundle/', import.meta.url);
  const [script, style] = await Promise.all(['asciinema-player.min.js', 'asciinema-player.css'].map((file) => readFile(new URL(file, dist), 'utf8')));
  const { bytes: cast } = await Login.as(url, username, password).then((login) => login.takes(`/api/v1/recordings/${id}/cast`));
  await page.route('http://whole.test/**', (route) => {
    const cast_ = new URL(route.request().url()).pathname === '/cast';
    return route.fulfill(cast_ ? { body: cast, contentType: 'text/plain' } : { contentType: 'text/html', body: `<style>${style}</style><div id=it style="height:600px"></div><script>${script}</script>` });
  });
  await page.goto('http://whole.test/');
  const result = await page.evaluate(async (duration) => {
    const waits = (done) => new Promise((resolve) => {
      const look = () => (done() ? resolve() : requestAnimationFrame(look));
      look();
    });
    const shown = () => document.querySelector('.ap-term-text')?.textContent ?? '';
    const data = await (await fetch('/cast')).text();
    const began = performance.now();
    const player = AsciinemaPlayer.create({ data: () => new Response(data) }, document.getElementById('it'), { preload: true, poster: 'npt:0.5' });
    await waits(() => shown().trim());
    const first = performance.now() - began;
    const took = [];
    for (const part of [0.95, 0.3, 0.9]) {
      const [at, before] = [performance.now(), shown()];
      void player.seek(duration * part);
      await waits(() => shown() !== before);
      took.push(performance.now() - at);
    }
    return { first, took };
  }, duration).catch((error) => ({ error: String(error).split('\n')[0] }));
  const heap = result.error ? 0 : await heapOf(page);
  figure(`${name}: baseline, one file, already fetched`, result.error ?? `first frame ${ms(result.first)}, seeks ${result.took.map(ms).join(', ')}, heap ${heap.toFixed(0)} MiB`);
  await page.close();
}

/** Many small recordings, searched across. */
async function across(login, asset) {
  const began = performance.now();
  let left = SMALL;
  const one = async () => {
    while (left > 0) {
      left -= 1;
      await session(login, asset, `seq 1 50; echo small-${left}; exec true`);
    }
  };
  await Promise.all([...Array(8)].map(one));
  await eventually(async () => (await login.asks('/recordings?limit=1')).items[0]?.state === 'stored');
  await settled();
  const each = (performance.now() - began) / SMALL;
  figure(`${SMALL} sessions of 60 lines, opened, recorded, stored`, `${ms(each)} each`);
  for (const [what, q] of [['in the newest', `small-0`], ['in the oldest of them', `small-${SMALL - 1}`], ['nowhere', 'is-not-there']]) {
    const [at, answers, items] = [performance.now(), [], []];
    for (let cursor = ''; cursor !== null; ) {
      const since = performance.now();
      const answer = await login.asks(`/recordings/search?q=${q}&limit=50${cursor && `&cursor=${encodeURIComponent(cursor)}`}`);
      answers.push(performance.now() - since);
      items.push(...answer.items);
      cursor = answer.next_cursor ?? null;
    }
    figure(`search across all, a word ${what}`, `${ms(performance.now() - at)} in ${answers.length} requests, slowest ${ms(Math.max(...answers))}, ${items.length} found`);
  }
}

async function online(login) {
  return eventually(async () => (await login.asks('/assets')).items.find(({ status }) => status === 'online')?.id);
}

async function session(login, asset, command) {
  const ticket = await login.asks(`/assets/${asset}/tty/authorize?command=${encodeURIComponent(command)}`);
  let id;
  const socket = login.dial(ticket, 0, (frame) => {
    if (frame.type === 'data') socket.parsed(frame.offset + frame.bytes.length);
  });
  ({ session_id: id } = await socket.ready);
  await socket.closed;
  return id;
}

async function stored(login, id) {
  return eventually(async () => {
    const recording = await login.asks(`/recordings/${id}`);
    return recording.state === 'stored' && recording;
  });
}

/** Until the bastion rests. */
async function settled() {
  for (let last = await cpu(), quiet = 0; quiet < 5; ) {
    await pause(200);
    const now = await cpu();
    quiet = now - last < 0.02 ? quiet + 1 : 0;
    last = now;
  }
}

async function cpu() {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

/** The bastion's resident memory, looked at ten times a second. */
function watchMemory() {
  let [before, most, watching] = [0, 0, true];
  const look = async () => {
    while (watching) {
      const status = await readFile(`/proc/${pid}/status`, 'utf8');
      const now = Number(status.match(/^RssAnon:\s+(\d+)/m)[1]) / 1024;
      before ||= now;
      most = Math.max(most, now);
      await pause(100);
    }
  };
  void look();
  return {
    stop() {
      watching = false;
      return { before, most };
    },
  };
}

async function heapOf(page) {
  const wire = await page.context().newCDPSession(page);
  await wire.send('HeapProfiler.collectGarbage');
  const { usedSize } = await wire.send('Runtime.getHeapUsage');
  return usedSize / MIB;
}

async function eventually(look, timeout = 300_000) {
  for (const deadline = Date.now() + timeout; Date.now() < deadline; await pause(100)) {
    const found = await look();
    if (found) return found;
  }
  return assert.fail('it never happened');
}

/** Lines of a log: ASCII, colours, Chinese; no two alike, the same in every run. */
async function write(file, length) {
  const out = createWriteStream(file);
  let [dice, written] = [123_456_789, 0];
  while (written < length) {
    const lines = [];
    for (let n = 0; n < 2000; n += 1) {
      dice = (dice * 1_103_515_245 + 12_345) % 2_147_483_648;
      const id = dice.toString(16).padStart(8, '0');
      lines.push(dice % 3 ? `\x1b[32mINFO\x1b[0m 2026-11-23 09:00:00.${dice % 900} http: request ${id} served in ${dice % 900} ms` : `\x1b[1;33mWARN\x1b[0m 请求 ${id} 已完成，用时 ${dice % 97} 毫秒`);
    }
    const text = `${lines.join('\n')}\n`;
    written += Buffer.byteLength(text);
    if (!out.write(text)) await new Promise((resolve) => out.once('drain', resolve));
  }
  out.end(`${NEEDLE}\n`);
  await finished(out);
}

function figure(what, measured, target = '', verdict = '') {
  rows.push([what, measured, target, verdict]);
}

function judged(what, took, most) {
  if (took.length === 0) return figure(what, 'none');
  const sorted = took.toSorted((a, b) => a - b);
  const worst = sorted.at(-1);
  return figure(what, `${ms(sorted[sorted.length >> 1])}, worst ${ms(worst)}`, `<= ${most} ms`, worst <= most ? 'met' : 'missed');
}

function ms(took) {
  return took >= 10_000 ? `${(took / 1000).toFixed(1)} s` : `${took.toFixed(0)} ms`;
}

function print() {
  const width = (column) => Math.max(...rows.map((row) => row[column].length));
  const widths = [width(0), width(1), width(2)];
  console.log('\nplayback: recordings of a session by cat, on the real page in Chromium; medians');
  for (const row of rows) console.log(`  ${row.map((cell, n) => (n === 1 ? cell.padStart(widths[n]) : cell.padEnd(widths[n] ?? 0))).join('  ').trimEnd()}`);
  console.log('  . first frame: from the start of the navigation until the player shows text, 5 fresh profiles; seek: a digit is that tenth of the recording, from the key until it shows another picture; 20 seeks to and fro');
  console.log("  . memory: the most of RssAnon in /proc/<pid>/status, ten looks a second; the page's heap after a collection");
  console.log('  . search across: over the small ones and those above, the largest transcript included; all of them made by real sessions, eight at a time');
}
