// What a shell is made to print, and how programs in it are driven; chance decides the details.
import { execFileSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';

const ESC = '\x1b';
const WORDS = ['城堡', '堡垒机', '終端', 'ターミナル', 'ログイン', '한국어', 'bastion', 'ok', '😀', '🚀', '✅', 'Ｆｕｌｌ', 'ｱｲｳ', 'naïve', '─┼─', '“引号”', '…', '，', '。'];

/** The same numbers from the same seed. */
export function chance(seed) {
  let state = seed >>> 0;
  const next = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
  const below = (n) => Math.floor(next() * n);
  return { below, between: (low, high) => low + below(high - low + 1), one: (list) => list[below(list.length)] };
}

/**
 * The scenes by name. `play` drives the shell until it is told that it is over, and leaves it at its prompt; one that
 * `resizes` may be told other sizes meanwhile, since it draws all anew then, and elsewhere than the shell.
 */
export function scenes(folder, random) {
  const scene = printed(folder);
  const cjk = join(folder, 'cjk.txt');
  writeFileSync(cjk, Array.from({ length: 400 }, (_, n) => `${n} ${words(random, random.between(0, 30))}`).join('\n'));
  const all = {
    colours: scene('colours', many(60, () => coloured(random)), 20),
    'a log in Chinese and Japanese': scene('log', many(120, () => logged(random)), 10),
    vim: driven(`vim -u NONE -i NONE -n -N ${cjk}`, () => vimKeys(random), `${ESC}${ESC}:qa!\r`, true),
    // It draws on the shell's own screen.
    top: driven('top -d 0.2', () => random.one(['1', 'c', 'M', 'P', 't', 'm', 'z', 'x']), 'q'),
    htop: driven('htop -d 2', () => random.one(['t', 'H', 'P', 'M', `${ESC}[B`, `${ESC}[6~`]), 'q', true),
    less: driven(`less -R ${cjk}`, () => random.one([' ', 'b', 'j', 'k', 'd', 'u', 'g', 'G', '/城堡\r', 'n', '-S\r']), 'q', true),
    'the alternate screen, entered and left': scene('alternate', many(40, () => alternate(random)), 25, `${ESC}[?1049l`),
    'scroll regions and editing': scene('regions', [`${ESC}[2J${ESC}[H`, ...many(120, () => edited(random))], 15, `${ESC}[!p`),
    modes: scene('modes', many(60, () => switched(random)), 25, `${ESC}[!p${ESC}[?1000;1002;1003;1005;1006;1015;1016l`),
    'characters and sequences printed by halves': scene('halves', halves(random), 60, `${ESC}\\${ESC}[m`),
  };
  return Object.fromEntries(Object.entries(all).filter(([name]) => !['vim', 'top', 'htop', 'less'].includes(name) || installed(name)));
}

export function installed(program) {
  try {
    execFileSync('sh', ['-c', `command -v ${program}`]);
    return true;
  } catch {
    return false;
  }
}

/** Files printed one after the other, again and again, with a pause (milliseconds) after each. */
function printed(folder) {
  const script = join(folder, 'play.sh');
  writeFileSync(script, 'cd "$1"\nuntil [ -e "$1.done" ]; do for f in *; do cat "$f"; sleep "$2"; done; done\nprintf "%b" "$3"\n');
  return (name, pieces, ms, last = '') => {
    const place = join(folder, name);
    mkdirSync(place);
    pieces.forEach((piece, n) => writeFileSync(join(place, String(n).padStart(4, '0')), piece));
    const ending = `'${[`${ESC}[m`, last].join('').replaceAll(ESC, '\\033').replaceAll('\\\\', '\\134')}'`;
    const play = async (shell, isOver) => {
      const ended = await shell.runs(`bash ${script} ${place} ${ms / 1000} ${ending}`);
      while (!isOver()) await pause(20);
      writeFileSync(`${place}.done`, '');
      await ended();
    };
    return { play, resizes: false };
  };
}

/** A program that is sent keys, and left with the last. */
function driven(command, keys, leave, resizes = false) {
  const play = async (shell, isOver) => {
    const ended = await shell.runs(command);
    while (!isOver()) {
      // As a person types: top makes nothing of keys that come together.
      await pause(60);
      shell.type(keys());
    }
    await pause(300);
    shell.type(leave);
    await ended();
  };
  return { play, resizes };
}

function many(n, make) {
  return Array.from({ length: n }, make);
}

function words(random, n) {
  return many(n, () => random.one(WORDS)).join(random.one(['', ' ']));
}

function style(random) {
  const flags = [0, 1, 2, 3, 4, 5, 7, 9, 22, 23, 24, 25, 27, 29];
  const colour = (base) =>
    random.one([`${base + random.below(8)}`, `${base + 60 + random.below(8)}`, `${base + 8};5;${random.below(256)}`, `${base + 8};2;${random.below(256)};${random.below(256)};${random.below(256)}`, `${base + 9}`]);
  return `${ESC}[${random.one([random.one(flags), colour(30), colour(40), `1;${colour(30)}`, `0;${colour(30)};${colour(40)}`])}m`;
}

/** Lines too short to wrap: where a wide character wraps in colour, xterm.js colours the cell left over, avt does not. */
function coloured(random) {
  const name = () => `${style(random)}${words(random, 1)}${random.below(1000)}${random.below(3) ? `${ESC}[0m` : ''}`;
  return `${many(random.between(1, 3), name).join(random.one(['  ', '\t']))}${ESC}[m\r\n`;
}

function logged(random) {
  const time = new Date(random.below(2 ** 31) * 1000).toISOString();
  return `${time} ${style(random)}${random.one(['INFO', '警告', 'エラー'])}${ESC}[0m ${words(random, random.between(1, 40))}\n`;
}

function vimKeys(random) {
  return random.one([
    `i城堡 ${words(random, 4)}${ESC}`,
    `o${words(random, 20)}${ESC}`,
    'A…',
    ESC,
    '\x06',
    '\x02',
    '\x04',
    'jjjj',
    'dd',
    'p',
    'u',
    'x',
    'J',
    'G',
    'gg',
    'zz',
    `${ESC}:split\r`,
    `${ESC}:vsplit\r`,
    '\x17w',
    `${ESC}:only\r`,
    `${ESC}:set number! hlsearch\r/城\r`,
    `${ESC}:syntax on\r`,
    `${ESC}:set cursorline!\r`,
    'vjjl',
  ]);
}

/**
 * A cursor that was saved is placed anew after it is restored: when lines scrolled off in between, xterm.js brings it
 * back as many lines higher, which no redrawn screen can know.
 */
function alternate(random) {
  const mode = random.one(['?1049', '?1047', '?47']);
  const enter = `${ESC}[${mode}h${ESC}[H${style(random)}${words(random, 5)}${place(random)}${words(random, 3)}${ESC}[m`;
  const leave = `${ESC}[${mode}l${place(random)}`;
  return random.one([enter, leave, `${enter}${leave}`, `${words(random, 6)}\r\n`]);
}

function place(random) {
  return `${ESC}[${random.between(1, 24)};${random.between(1, 90)}H`;
}

function edited(random) {
  const n = random.between(1, 4);
  const top = random.between(1, 6);
  return random.one([
    // Within the smallest screen: margins that reach beyond theirs xterm.js cuts off, and avt passes by.
    `${ESC}[${top};${top + random.between(1, 6)}r`,
    `${ESC}[r`,
    place(random),
    // Without colour, since it may wrap: see `coloured`.
    `${place(random)}${ESC}[m${words(random, random.between(1, 8))}`,
    `${ESC}[m${words(random, 3)}\r\n`,
    '\n\n',
    `${ESC}M`,
    `${ESC}D`,
    `${ESC}E`,
    // At the left, where xterm.js goes by itself and avt does not.
    `\r${ESC}[${n}L`,
    `\r${ESC}[${n}M`,
    `${ESC}[${n}@`,
    `${ESC}[${n}P`,
    `${ESC}[${n}X`,
    `${ESC}[${n}S`,
    `${ESC}[${n}T`,
    `${ESC}[K`,
    `${ESC}[1K`,
    `${ESC}[?6h`,
    `${ESC}[?6l`,
    // Not a wide character, for which avt makes room for a narrow one only.
    `${ESC}[4hinserted ${ESC}[4l`,
    // Not in origin mode, which avt saves and restores with the cursor and xterm.js does not.
    `${ESC}[?6l${ESC}7`,
    `${ESC}[?6l${ESC}8${place(random)}`,
    `${ESC}(0lqqk${ESC}(B`,
    style(random),
    `${ESC}H`,
    '\t',
    // Not a wide character in the last column, which xterm.js drops and avt draws one to the left.
    `${ESC}[?7l${'cut off '.repeat(20)}${ESC}[?7h`,
  ]);
}

function switched(random) {
  const set = random.one(['h', 'l']);
  return random.one([
    `${ESC}[?${random.one([1, 7, 25, 45, 1000, 1002, 1003, 1004, 1006, 1016, 2004, 9, 66])}${set}`,
    `${ESC}[?1000;1006h`,
    `${ESC}[?1006;1003l`,
    `${ESC}[4${set}`,
    `${ESC}=`,
    `${ESC}>`,
    `${ESC}[${random.below(7)} q`,
    `${ESC}]0;${words(random, 2)}\x07`,
    `${ESC}]2;${words(random, 1)}${ESC}\\`,
    `${ESC}[!p`,
    `${words(random, 3)}\r\n`,
  ]);
}

/** Cut between any two bytes. */
function halves(random) {
  const whole = ['城', '😀', `${ESC}[1;38;5;200m`, `${ESC}]0;半分\x07`, `${ESC}[?2004h`, `${ESC}(B`, `${ESC}[10;20H`, `${ESC}P+q544e${ESC}\\`, `${ESC}[0K`, `${ESC}[m`, '文字\r\n'];
  return many(12, () => {
    const bytes = Buffer.from(`${words(random, 2)}${random.one(whole)}${random.one(whole)}`);
    const cut = random.between(1, bytes.length - 1);
    return [bytes.subarray(0, cut), bytes.subarray(cut)];
  }).flat();
}
