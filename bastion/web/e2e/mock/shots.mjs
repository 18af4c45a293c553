// Pictures of every page against the mock, wide and narrow, light and dark, with whatever the browser complained about.
import { mkdirSync } from 'node:fs';
import { chromium } from 'playwright-core';
import { ARGS, EXECUTABLE } from '../browser.mjs';
import { start } from './serve.mjs';
import { primary } from './shells.mjs';

const OUT = process.env.CASTELLAN_SHOTS ?? '/tmp/castellan-shots';
const ONLY = process.argv.slice(2);
mkdirSync(OUT, { recursive: true });

const SIZES = { wide: { width: 1280, height: 800 }, narrow: { width: 390, height: 844 } };
const click = (selector) => async (page) => {
  await page.click(selector);
  await page.waitForTimeout(400);
};
const tab = async (page, name) => {
  await page.getByRole('tab', { name }).click();
  await page.waitForTimeout(600);
};
const opened = async (page) => {
  await page.waitForSelector('[data-phase="open"]');
  await page.keyboard.type('ls --color /; echo 你好\n');
  await page.waitForTimeout(700);
};
/** A second page of the same user, which takes the terminal or watches it. */
async function other(page, mode) {
  const second = await page.context().newPage();
  await second.goto(new URL(`/terminal?session=0190f001&mode=${mode}`, page.url()).href);
  await second.waitForSelector('[data-phase="open"]');
  await page.bringToFront();
  await page.waitForTimeout(400);
  return second;
}
const lost = (set) => async (page) => {
  await opened(page);
  set();
  primary.cut(1012);
  await page.waitForTimeout(6000);
};
const VIEWS = {
  login: { path: '/login', signedOut: true },
  'login-wrong': {
    path: '/login',
    signedOut: true,
    act: async (page) => {
      await page.fill('#username', 'admin');
      await page.fill('#password', 'wrong');
      await page.press('#password', 'Enter');
    },
  },
  hosts: { path: '/hosts' },
  'hosts-details': { path: '/hosts?host=0190a1b2-0001' },
  'hosts-edit': { path: '/hosts?host=0190a1b2-0001', act: click('text=Edit') },
  'hosts-with': { path: '/hosts', act: click('[aria-label="Open web-1 with a command"]') },
  'hosts-empty': { path: '/hosts', mood: 'empty' },
  'hosts-error': { path: '/hosts', mood: 'error' },
  'hosts-slow': { path: '/hosts', mood: 'slow' },
  menu: { path: '/hosts', narrow: true, act: click('[aria-label="Menu"]') },
  terminal: {
    path: '/terminal?asset=0190a1b2-0001',
    act: async (page) => {
      await page.waitForSelector('[data-phase="open"]');
      await page.keyboard.type('ls --color /; echo 你好，城堡 🏰 é\n');
      await page.waitForTimeout(900);
    },
  },
  'terminal-steps': { path: '/terminal?asset=0190a1b2-0001', act: (page) => page.waitForTimeout(50), quick: true },
  'terminal-ended': {
    path: '/terminal?asset=0190a1b2-0001',
    act: async (page) => {
      await page.waitForSelector('[data-phase="open"]');
      await page.keyboard.type('exit 3\n');
      await page.waitForSelector('[data-phase="ended"]');
    },
  },
  'terminal-refused': { path: '/terminal?asset=0190a1b2-0006' },
  'terminal-approval': { path: '/terminal?asset=0190a1b2-0003' },
  'terminal-none': { path: '/terminal' },
  'terminal-lost': { path: '/terminal?asset=0190a1b2-0001', act: lost(() => (mock.state.mood = 'away')) },
  'terminal-signed-out': { path: '/terminal?asset=0190a1b2-0001', act: lost(() => (mock.state.expired = true)) },
  'terminal-ended-away': { path: '/terminal?asset=0190a1b2-0001', act: lost(() => (mock.state.end_reason = 'detached')) },
  'terminal-back': { path: '/terminal?asset=0190a1b2-0001', act: lost(() => {}) },
  'terminal-reloaded': {
    path: '/terminal?asset=0190a1b2-0001',
    act: async (page) => {
      await opened(page);
      await page.reload();
      await page.waitForSelector('[data-phase="open"]');
    },
  },
  'terminal-taken': { path: '/terminal?asset=0190a1b2-0001', act: async (page) => void (await opened(page), await other(page, 'control')) },
  'terminal-watched': { path: '/terminal?asset=0190a1b2-0001', act: async (page) => void (await opened(page), await other(page, 'watch')) },
  'terminal-watching': { path: '/terminal?asset=0190a1b2-0001', act: async (page) => {
    await opened(page);
    await (await other(page, 'watch')).close();
    await page.goto(new URL('/terminal?session=0190f001&mode=watch', page.url()).href);
    await page.waitForSelector('[data-phase="open"]');
  } },
  'terminal-closing': { path: '/terminal?asset=0190a1b2-0001', act: async (page) => {
    await opened(page);
    primary.closing('idle', 42);
    await page.waitForTimeout(300);
  } },
  'terminal-close': { path: '/terminal?asset=0190a1b2-0001', act: async (page) => {
    await opened(page);
    await page.click('.tab .close');
  } },
  live: { path: '/recordings/0190f002?live', act: (page) => page.waitForTimeout(2500) },
  'terminal-settings': { path: '/terminal?asset=0190a1b2-0001', act: click('[aria-label="Font and colours"]') },
  'terminal-paste': {
    path: '/terminal?asset=0190a1b2-0001',
    act: async (page) => {
      await page.waitForSelector('[data-phase="open"]');
      await page.evaluate(() => {
        const data = new DataTransfer();
        data.setData('text/plain', 'echo one\u001b[201~\necho two\nsudo rm -r build\n');
        document.querySelector('.xterm-helper-textarea').dispatchEvent(new ClipboardEvent('paste', { clipboardData: data, bubbles: true, cancelable: true }));
      });
      await page.waitForTimeout(300);
    },
  },
  'terminal-find': {
    path: '/terminal?asset=0190a1b2-0001',
    act: async (page) => {
      await page.waitForSelector('[data-phase="open"]');
      await page.keyboard.type('ls -l /usr\n');
      await page.waitForTimeout(600);
      await page.keyboard.press('Control+Shift+F');
      await page.keyboard.type('lib');
      await page.waitForTimeout(500);
    },
  },
  sessions: { path: '/sessions' },
  'sessions-end': { path: '/sessions', act: click('text=End >> nth=1') },
  recordings: { path: '/recordings' },
  'recordings-search': { path: '/recordings?in=screen&q=crate-12', act: (page) => page.waitForTimeout(800) },
  'recordings-nothing': { path: '/recordings?in=screen&q=unheard', act: (page) => page.waitForTimeout(800) },
  'recordings-ask': { path: '/recordings?in=screen' },
  player: { path: '/recordings/0190f003', act: (page) => page.waitForTimeout(1500) },
  'player-found': {
    path: '/recordings/0190f003?t=11.2&q=nginx',
    act: async (page) => {
      await page.waitForTimeout(1500);
      await page.getByRole('button', { name: 'Next hit' }).click();
      await page.waitForTimeout(400);
    },
  },
  'player-commands': { path: '/recordings/0190f003?t=26', act: (page) => tab(page, 'Commands') },
  'player-markers': { path: '/recordings/0190f003?t=14', act: (page) => tab(page, 'Markers') },
  'player-seal': {
    path: '/recordings/0190f003',
    act: async (page) => {
      await page.getByText('What the seal says').click();
      await page.getByText('Verify it yourself').click();
      await page.locator('#proof').scrollIntoViewIfNeeded();
    },
  },
  'player-download': { path: '/recordings/0190f003', act: (page) => page.getByRole('button', { name: 'Download' }).click() },
  'player-long': { path: '/recordings/0190f010?t=1800&q=warning', act: (page) => page.waitForTimeout(2500) },
  'player-altered': { path: '/recordings/0190f011', act: (page) => page.waitForTimeout(1500) },
  'player-damaged': { path: '/recordings/0190f012', act: (page) => page.waitForTimeout(1500) },
  'player-crashed': { path: '/recordings/0190f014', act: (page) => page.waitForTimeout(1500) },
  'player-away': {
    path: '/recordings/0190f013?t=50',
    act: async (page) => {
      await page.waitForTimeout(1000);
      await page.getByRole('option').nth(4).click();
      await page.evaluate(() => document.querySelector('[role=listbox]').scrollTo(0, 27 * 4000));
      await page.waitForTimeout(300);
      await page.getByRole('option').nth(20).click();
      await page.waitForTimeout(900);
    },
  },
  'player-delete': { path: '/recordings/0190f003', act: (page) => page.getByRole('button', { name: 'Delete' }).click() },
  'player-broken': { path: '/recordings/0190f004', act: (page) => page.waitForTimeout(1500) },
  'player-live': { path: '/recordings/0190f001' },
  'player-missing': { path: '/recordings/nothing' },
  approvals: { path: '/approvals' },
  'approvals-approve': { path: '/approvals', act: click('text=Review and approve >> nth=1') },
  users: { path: '/users' },
  'users-edit': { path: '/users', act: click('text=Add user') },
  tokens: { path: '/tokens' },
  audit: { path: '/audit', act: click('summary >> nth=0') },
  policies: {
    path: '/policies',
    act: async (page) => {
      await page.selectOption('#sim-user', 'u-2');
      await page.selectOption('#sim-host', '0190a1b2-0006');
      await page.click('text=Ask the policy');
      await page.waitForTimeout(300);
    },
  },
  'not-found': { path: '/nowhere' },
  docs: { path: '/docs', act: (page) => page.waitForTimeout(1500) },
};

const mock = await start();
const browser = await chromium.launch({ executablePath: EXECUTABLE, args: ARGS });
for (const [name, view] of Object.entries(VIEWS)) {
  if (ONLY.length && !ONLY.some((only) => name === only || name.startsWith(`${only}-`))) continue;
  for (const [size, viewport] of Object.entries(SIZES)) {
    if (view.narrow && size !== 'narrow') continue;
    for (const colorScheme of ['light', 'dark']) {
      Object.assign(mock.state, { mood: view.mood ?? '', signedIn: !view.signedOut, expired: false, end_reason: '' });
      const context = await browser.newContext({ viewport, colorScheme, hasTouch: size === 'narrow', isMobile: size === 'narrow' });
      const page = await context.newPage();
      page.on('console', (message) => ['error', 'warning'].includes(message.type()) && console.log(`${name} ${size}: ${message.text().slice(0, 300)}`));
      page.on('pageerror', (error) => console.log(`${name} ${size}: ${error.stack}`));
      await page.goto(mock.url + view.path);
      if (!view.quick) await page.waitForTimeout(500);
      try {
        await view.act?.(page);
      } catch (error) {
        console.log(`${name} ${size}: ${error.message.split('\n')[0]}`);
      }
      await page.waitForTimeout(view.quick ? 0 : 300);
      const overflow = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
      if (overflow > 0) console.log(`${name} ${size}: ${overflow} px too wide`);
      await page.screenshot({ path: `${OUT}/${name}-${size}-${colorScheme}.png` });
      await context.close();
    }
  }
}
await browser.close();
mock.close();
process.exit(0);
