// Recordings as the bastion seals them, made up: casts with their index, seal, pieces, transcript and commands.
import { createHash, generateKeyPairSync, sign } from 'node:crypto';

const { privateKey, publicKey } = generateKeyPairSync('ed25519');
const KID = 'rec-2026-11-01';
const key = publicKey.export({ format: 'jwk' });
export const keys = { keys: [{ kty: key.kty, crv: key.crv, x: key.x, kid: KID, use: 'sig', alg: 'EdDSA' }] };

const sha = (...parts) => parts.reduce((hash, part) => hash.update(part), createHash('sha256')).digest();
const part = (value) => Buffer.from(typeof value === 'string' ? value : JSON.stringify(value)).toString('base64url');

/** `events`: `[seconds, code, data]`; a chunk every `step` bytes. */
export function seal(recording, events, { step = 256 << 10, claims = {} } = {}) {
  const { asset, user, session_id: session, started_at: started, ended_at: ended } = recording;
  const facts = { asset: asset.id, cols: 100, rows: 28, session, started, user: user.id };
  const header = JSON.stringify({ version: 2, width: 100, height: 28, timestamp: Math.floor(Date.parse(started) / 1000) });
  const chunks = [];
  let plain = Buffer.from(`${header}\n`);
  let first = null;
  let last = 0;
  let plain_at = 0;
  let at = 0;
  let chain = sha(JSON.stringify(facts));
  const all = [];
  const cut = () => {
    const digest = sha(plain);
    chain = sha(chain, digest);
    const len = Math.ceil(plain.length / 8);
    chunks.push({ n: chunks.length, first, last, at, len, plain_at, plain_len: plain.length, sha256: digest.toString('hex'), chain: chain.toString('hex') });
    all.push(plain);
    plain_at += plain.length;
    at += len;
    first = null;
    plain = Buffer.alloc(0);
  };
  let lines = [];
  for (const event of events) {
    first ??= event[0];
    last = event[0];
    lines.push(`${JSON.stringify(event)}\n`);
    if (lines.length === 500 || plain.length + lines.reduce((n, line) => n + line.length, 0) >= step) {
      plain = Buffer.concat([plain, Buffer.from(lines.join(''))]);
      lines = [];
      if (plain.length >= step) cut();
    }
  }
  plain = Buffer.concat([plain, Buffer.from(lines.join(''))]);
  if (plain.length > 0) cut();
  const totals = { plain_len: plain_at, output_bytes: plain_at, output_sha256: sha('output').toString('hex'), lost_bytes: 0 };
  const index = { version: 1, session, compression: 'zstd', facts, chunks, stored_len: at, ...totals };
  const said = { iss: 'https://bastion.example.org', iat: Math.floor(Date.parse(ended) / 1000) + 3, sub: session, facts, ended, reason: 'exit', chunks: chunks.length, head: chain.toString('hex'), recovered: false, input: false, ...totals, ...claims };
  const message = `${part({ alg: 'EdDSA', kid: KID, typ: 'castellan-seal+jwt' })}.${part(said)}`;
  const jws = `${message}.${sign(null, Buffer.from(message), privateKey).toString('base64url')}`;
  return { cast: Buffer.concat(all), index: JSON.stringify(index), seal: jws, claims: said };
}

const PROMPT = '\u001b[1;32mmira@web-1\u001b[0m:\u001b[1;34m~\u001b[0m$ ';
const FILES = '\u001b[1;36mbin\u001b[0m   \u001b[1;34mboot\u001b[0m  \u001b[1;34mdev\u001b[0m  \u001b[1;34metc\u001b[0m  \u001b[1;34mhome\u001b[0m  \u001b[30;42mtmp\u001b[0m  \u001b[1;34mvar\u001b[0m';

/** A short session: a few commands, Chinese, a watcher, a pause. */
export function shortSession() {
  const made = { events: [], commands: [], lines: [] };
  let t = 0;
  const put = (code, data, step = 0.05) => made.events.push([(t = Math.round((t + step) * 1000) / 1000), code, data]);
  const run = (text, answer, exit, pause = 0.6) => {
    put('o', PROMPT, 0.1);
    for (const letter of text) put('o', letter, 0.09);
    made.commands.push({ t, text, exit });
    made.lines.push({ t, line: `mira@web-1:~$ ${text}` });
    put('o', `\r\n${answer.join('\r\n')}${answer.length ? '\r\n' : ''}`, pause);
    // eslint-disable-next-line no-control-regex
    for (const line of answer) made.lines.push({ t, line: line.replace(/\u001b\[[0-9;]*m/g, '') });
  };
  run('ls --color /', [FILES], 0);
  run('echo 你好，城堡', ['你好，城堡'], 0);
  put('m', 'jürgen watches', 0.4);
  run('systemctl status nginx', ['\u001b[1;31m×\u001b[0m nginx.service - A high performance web server and a reverse proxy server', '     Loaded: loaded (/lib/systemd/system/nginx.service; enabled; preset: enabled)', '     Active: \u001b[1;31mfailed\u001b[0m (Result: exit-code) since Mon 2026-11-23 09:14:02 CET; 3min 12s ago', '    Process: 8123 ExecStartPre=/usr/sbin/nginx -t -q (code=exited, status=1/FAILURE)', '        CPU: 31ms'], 3);
  put('m', 'the host is out of reach', 2);
  put('m', 'the host is back', 5);
  run('nginx -t', ['nginx: [emerg] unknown directive "serverr_name" in /etc/nginx/sites-enabled/shop:4', 'nginx: configuration file /etc/nginx/nginx.conf test failed'], 1, 0.9);
  run("sed -i 's/serverr_name/server_name/' /etc/nginx/sites-enabled/shop", [], 0, 8);
  run('nginx -t && systemctl restart nginx', ['nginx: the configuration file /etc/nginx/nginx.conf syntax is ok', 'nginx: configuration file /etc/nginx/nginx.conf test is successful'], 0, 1.2);
  for (let n = 0; n < 40; n += 1) run(`curl -s -o /dev/null -w '%{http_code}' https://shop.example.org/health?n=${n}`, ['200'], 0, 0.3);
  run('exit', ['logout'], null);
  return made;
}

/** A session too long for the player to load at once: `count` events in pieces that each begin with a cleared screen. */
export function longSession(count = 60_000, pieces = 24) {
  const made = { events: [], commands: [], lines: [] };
  for (let n = 0; n < count; n += 1) {
    const t = Math.round(n * 60) / 1000;
    const clear = n % (count / pieces) === 0 ? '\u001b[2J\u001b[H' : '';
    const line = `[${String(n).padStart(6)}] Compiling crate-${n % 311} v0.${n % 17}.${n % 9} (/build/workspace/crates/crate-${n % 311})${n % 977 === 5 ? ' warning: unused import' : ''}`;
    made.events.push([t, 'o', `${clear}\u001b[32m${line}\u001b[0m\r\n`]);
    made.lines.push({ t, line });
    if (n % 9000 === 100) made.commands.push({ t, text: `cargo build -p crate-${n}`, exit: n % 2000 ? 0 : 101 });
  }
  const per = count / pieces;
  const segment = (n) => ({ snapshot: { cols: 100, rows: 28, init: '' }, events: made.events.slice(n * per, (n + 1) * per) });
  const starts = Array.from({ length: pieces }, (_, n) => ({ start: made.events[n * per][0], url: `${n}.json` }));
  const list = { version: 1, duration: made.events.at(-1)[0], term: { cols: 100, rows: 28 }, markers: [], segments: starts };
  return { ...made, piece: (name) => (name === 'index.json' ? list : segment(Number.parseInt(name, 10))) };
}
