// The journey a new user makes, in a real browser, against the real programs.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { after, before, test } from 'node:test';
import { startAgent, startBastion } from './bastion.mjs';
import { readCast } from './player.mjs';
import { openBrowser } from './people.mjs';

const LABEL = ['journey', 'second'];
let bastion;
let browser;
let person;

before(async () => {
  bastion = await startBastion();
  browser = await openBrowser(bastion.url);
  person = browser.page;
});
after(async () => {
  await browser?.close();
  await bastion?.stop();
});

function installed(program) {
  try {
    execFileSync('sh', ['-c', `command -v ${program}`]);
    return true;
  } catch {
    return false;
  }
}

test('a new user logs in, works in a terminal and plays the recording', { timeout: 240_000 }, async (t) => {
  await t.test('a wrong password is refused in words', async () => {
    await person.page.goto('/');
    await person.page.getByLabel('User name').fill('admin');
    await person.page.getByLabel('Password', { exact: true }).fill('certainly wrong');
    await person.page.getByRole('button', { name: 'Sign in' }).click();
    await person.page.getByText('User name and password do not match.').waitFor();
  });

  await t.test('the printed password opens the door, and this host is online', async () => {
    await person.login(bastion.password);
    await person.host('Online');
    await person.shot('hosts');
  });

  await t.test('a click opens a terminal', async () => {
    const took = await person.openTerminal(await person.host('Online'));
    t.diagnostic(`click to prompt: ${took} ms`);
  });

  await t.test('commands answer, colours and Chinese included', async () => {
    await person.runs('echo answer-$((40 + 2))');
    await person.sees(/answer-42/);
    await person.runs('ls --color /');
    await person.sees(/usr/);
    await person.runs('echo 城堡-$((1 + 1))-你好');
    await person.sees(/城堡-2-你好/);
    await person.shot('terminal');
  });

  await t.test('vim draws, takes text and quits', { skip: !installed('vim') && 'vim is not installed' }, async () => {
    await person.runs('vim --clean');
    await person.sees(/~\s*\n~/);
    await person.types('i');
    await person.types('written in vim');
    await person.sees(/written in vim/);
    await person.shot('terminal-vim');
    await person.page.keyboard.press('Escape');
    await person.runs(':q!');
    await person.prompted('vim --clean');
    await person.runs('echo back-$((3 * 3))');
    await person.sees(/back-9/);
  });

  await t.test('htop draws, and goes at a key', { skip: !installed('htop') && 'htop is not installed' }, async () => {
    await person.runs('htop');
    await person.sees(/Load average/);
    await person.shot('terminal-htop');
    await person.types('q');
    await person.prompted('htop');
    await person.runs('echo back-$((5 * 5))');
    await person.sees(/back-25/);
  });

  await t.test('the host learns a new window size', async () => {
    await person.runs('clear; echo "size:$(stty size)"');
    const before = (await person.sees(/size:(\d+ \d+)/))[1];
    await person.page.setViewportSize({ width: 1000, height: 620 });
    await person.page.waitForFunction((old) => {
      const rows = document.querySelector('.pane:not([hidden]) .xterm-accessibility-tree')?.children.length ?? 0;
      return rows > 0 && rows !== Number(old.split(' ')[0]);
    }, before);
    const after = await eventually(async () => {
      await person.runs('clear; echo "now:$(stty size)"');
      const size = (await person.sees(/now:(\d+ \d+)/))[1];
      return size !== before && size;
    });
    assert.notEqual(after, before);
    await person.page.setViewportSize({ width: 1280, height: 800 });
  });

  let recording;
  await t.test('the end is said, with the way to the recording', async () => {
    await person.runs('exit');
    assert.match(await person.ended(), /The shell ended/);
    await person.shot('terminal-ended');
    recording = await person.page.locator('.pane:not([hidden]) .ended a').getAttribute('href');
    assert.match(recording, /^\/recordings\/.+/);
  });

  await t.test('the session is in the list', async () => {
    await person.page.goto('/sessions');
    await person.page.getByRole('row').filter({ hasText: 'Ended' }).first().waitFor();
    await person.shot('sessions');
    await person.page.goto('/recordings');
    await person.page.locator(`a[href="${recording}"]`).first().waitFor();
    await person.shot('recordings');
  });

  await t.test('the recording plays', async () => {
    await person.page.goto(recording);
    const player = person.page.locator('.ap-player');
    await player.waitFor({ timeout: 30_000 });
    await person.page.getByRole('radio', { name: '8×' }).check();
    await person.page.getByLabel(/Shorten pauses/).check();
    await person.page.locator('.ap-overlay-start').click();
    await person.page.waitForFunction(() => document.querySelector('.ap-term-text')?.textContent?.includes('answer-42'), null, {
      polling: 50,
      timeout: 60_000,
    });
    await person.shot('player');
  });

  await t.test("the player's own parser reads all of it", async () => {
    const id = new URL(recording, bastion.url).pathname.split('/').pop();
    const answer = await person.page.request.get(`/api/v1/recordings/${id}/cast`);
    assert.equal(answer.status(), 200);
    const { output, duration } = await readCast(await answer.text());
    for (const shown of ['answer-42', '城堡-2-你好', 'back-25']) assert.ok(output.includes(shown), shown);
    assert.ok(duration > 1);
    await assert.rejects(readCast('{"version":2,"width":80,"height":24}\n[0.1,"o"'));
  });
});

test('an admin approves a second agent in the API reference and opens a terminal on it', { timeout: 180_000 }, async (t) => {
  const agent = await startAgent(bastion.url, LABEL.join('='));
  t.after(() => agent.stop());
  const me = await person.page.request.get('/api/v1/me').then((answer) => answer.json());

  await t.test('its application waits on the approvals page', async () => {
    await person.page.goto('/approvals');
    await person.page.getByText(LABEL.join('=')).first().waitFor({ timeout: 30_000 });
    await person.shot('approvals');
  });

  await t.test('"Try it out" shows it and approves it', async () => {
    await person.page.goto('/docs');
    const pending = await person.tries('get', '/registrations', { query: { status: 'pending' } });
    assert.equal(pending.status, 200);
    const application = pending.body.items.find((item) => item.labels[LABEL[0]] === LABEL[1]);
    assert.ok(application, 'the application is among the pending ones');
    const labels = { [LABEL[0]]: LABEL[1] };
    const { id, fingerprint } = application;
    const approved = await person.tries('post', '/approve', { body: { id, fingerprint, labels, allowed_users: [me.id] } });
    assert.equal(approved.status, 200);
    assert.equal(approved.body.status, 'approved');
    await person.shot('docs');
  });

  await t.test('a terminal opens on it', async () => {
    await person.openTerminal(await person.host(LABEL.join('=')));
    await person.runs('echo second-$((20 + 3))');
    await person.sees(/second-23/);
    await person.shot('terminal-second');
    await person.runs('exit');
    await person.ended();
  });
});

test('a terminal outlives its socket, its page and its tab', { timeout: 240_000 }, async (t) => {
  let session;
  const id = () => person.page.locator('.pane:not([hidden]) [data-session]').getAttribute('data-session');

  await t.test('with its socket cut it comes back by itself, and what was typed meanwhile arrives once', async () => {
    // Not the second host: its agent has just gone, which shows a while later.
    await person.openTerminal(await person.host('Online', LABEL.join('=')));
    await person.runs('clear; echo kept-$((6 * 7))');
    await person.sees(/^kept-42/m);
    session = await id();
    // No try may succeed before the keys are typed.
    await person.page.route('**/reattach?*', (route) => route.abort());
    await person.cut();
    await person.page.getByText('Reconnecting…').waitFor();
    await person.shot('terminal-reconnecting');
    await person.runs('echo typed-$((1 + 1))-away');
    await person.page.unroute('**/reattach?*');
    await person.connected();
    await person.sees(/typed-2-away/);
    const screen = await person.screen();
    assert.equal(screen.match(/typed-2-away/g).length, 1, screen);
    assert.equal(screen.match(/^kept-42/gm).length, 1, screen);
    assert.equal(await id(), session);
    await person.page.getByText('Reconnecting…').waitFor({ state: 'detached' });
  });

  await t.test('what it wrote while nobody was connected is there afterwards', async () => {
    await person.page.route('**/reattach?*', (route) => route.abort());
    await person.runs('clear; (sleep 1; echo meanwhile-$((8 * 8))) & wait');
    await person.cut();
    await person.page.getByText('Reconnecting…').waitFor();
    await person.page.waitForTimeout(2000);
    assert.doesNotMatch(await person.screen(), /^meanwhile-64/m);
    await person.page.unroute('**/reattach?*');
    await person.sees(/^meanwhile-64/m);
  });

  await t.test('a reloaded page shows the same screen', async () => {
    await person.runs('clear; echo before-$((9 * 9)); echo 城堡');
    await person.sees(/^before-81\s*\n城堡/m);
    const before = (await person.screen()).trimEnd();
    await person.page.reload();
    await person.connected();
    await person.sees(/^before-81\s*\n城堡/m);
    assert.equal((await person.screen()).trimEnd(), before);
    assert.equal(await id(), session);
    await person.runs('echo after-$((3 * 9))');
    await person.sees(/^after-27/m);
  });

  let second;
  await t.test('another page takes it over, and the first one says so', async () => {
    second = await browser.another();
    await second.page.goto(`/terminal?session=${session}`);
    await second.connected();
    await second.sees(/^after-27/m);
    assert.match(await person.ended(), /Opened elsewhere/);
    await person.shot('terminal-elsewhere');
    await second.runs('echo second-$((4 * 4))');
    await second.sees(/^second-16/m);
  });

  await t.test('the first page watches, sees all, and types nothing', async () => {
    await person.page.getByRole('button', { name: 'Watch', exact: true }).click();
    await person.connected();
    await person.page.getByText('Watching, read only.').waitFor();
    await person.sees(/^second-16/m);
    await second.page.getByTitle('1 other is watching').waitFor();
    await person.runs('echo never-$((5 * 5))');
    await second.runs('echo watched-$((2 * 9))');
    await person.sees(/^watched-18/m);
    assert.doesNotMatch(await second.screen(), /never/);
    await person.shot('terminal-watching');
  });

  await t.test('the first page takes it back', async () => {
    await person.page.getByRole('button', { name: 'Take control' }).click();
    await person.page.getByText('Watching, read only.').waitFor({ state: 'detached' });
    await person.connected();
    await person.runs('echo mine-$((7 * 7))');
    await person.sees(/^mine-49/m);
    assert.match(await second.ended(), /Opened elsewhere/);
  });

  await t.test('the player follows it live', async () => {
    await second.page.goto(`/recordings/${session}?live`);
    const shown = (words) =>
      second.page.waitForFunction((text) => document.querySelector('.ap-term-text')?.textContent?.includes(text), words, { polling: 50, timeout: 30_000 });
    await shown('mine-49');
    await person.runs('echo followed-$((6 * 6))');
    await shown('followed-36');
    await second.shot('live');
  });

  await t.test('a closed tab may leave it running, to be opened again from the list', async () => {
    await person.page.getByRole('button', { name: /^Close the terminal on/ }).click();
    await person.page.getByRole('button', { name: 'Leave it running' }).click();
    await person.page.getByText('No terminal is open').waitFor();
    await person.page.goto('/sessions');
    const row = person.page.getByRole('row').filter({ has: person.page.locator(`a[href="/terminal?session=${session}"]`) });
    await row.getByText('running, no browser').waitFor();
    await person.shot('sessions-detached');
    await row.getByRole('link', { name: 'Open' }).click();
    await person.connected();
    await person.sees(/^followed-36/m);
    assert.equal(await id(), session);
  });

  await t.test('or end it, and whoever follows is told', async () => {
    await person.page.getByRole('button', { name: /^Close the terminal on/ }).click();
    await person.page.getByRole('button', { name: 'End the session' }).click();
    await person.page.getByText('No terminal is open').waitFor();
    await second.page.getByRole('heading', { name: 'The session ended' }).waitFor({ timeout: 15_000 });
    const ended = await person.page.request.get(`/api/v1/sessions/${session}`).then((answer) => answer.json());
    assert.equal(ended.status, 'closed');
    await second.page.goto(`/terminal?session=${session}`);
    assert.match(await second.ended(), /The session was ended/);
    await second.page.close();
  });
});

test('no page broke its own rules on the way', () => {
  assert.deepEqual(browser.complaints, []);
});

async function eventually(attempt) {
  for (let tries = 0; tries < 20; tries += 1) {
    const result = await attempt();
    if (result) return result;
  }
  return assert.fail('it never came true');
}
