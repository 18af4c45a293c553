// What others' programs make of recordings: players, decompressors, hashers, a JOSE library. Real sessions, no page.
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { compactVerify, decodeProtectedHeader, importJWK } from 'jose';
import { startBastion } from './bastion.mjs';
import { difference } from './grid.mjs';
import { Player } from './player.mjs';
import { Login } from './wire.mjs';

const PATIENCE_MS = 60_000;
/** The decoder of a cast: what is no UTF-8 is U+FFFD, and a character may come in pieces. */
const text = (bytes) => new TextDecoder('utf-8', { ignoreBOM: true }).decode(bytes);
const sha256 = (...parts) => parts.reduce((hash, part) => hash.update(part), createHash('sha256')).digest();
const hex = (...parts) => sha256(...parts).toString('hex');

let bastion;
let login;
let asset;
let folder;
let keys;
/** Recordings by name; each is `{ session, printed, cast, index, seal, stored }`, and files of the folder. */
const recordings = {};

before(async () => {
  bastion = await startBastion();
  folder = await mkdtemp(join(tmpdir(), 'castellan-outside-'));
  login = await Login.as(bastion.url, 'admin', bastion.password);
  asset = await until('a host', async () => (await login.asks('/assets')).items.find(({ status }) => status === 'online'));
  const jwks = await login.takes('/.well-known/jwks.json');
  await writeFile(join(folder, 'jwks.json'), jwks.bytes);
  keys = JSON.parse(jwks.bytes).keys;
  const colours = String.raw`printf '\033[31mred \033[1;38;2;9;99;199mtrue\033[0m 终端 城堡 e\314\201\n'; stty size`;
  const rows = String.raw`for i in $(seq 70); do seq $((i*20000)) $((i*20000+14000)); printf '\033[4%dm终端 %d\033[0m\n' $((i%8)) $i; sleep 0.01; done`;
  recordings.short = await record(`${colours}; read key; stty size; ls --color=always /; exit 3`, resized);
  recordings.garbage = await record('head -c 100000 /dev/urandom');
  recordings.long = await record(rows);
  recordings.empty = await record('true');
}, { timeout: 4 * PATIENCE_MS });
after(async () => {
  await bastion?.stop();
  if (folder) await rm(folder, { recursive: true, force: true });
});

/** Looks until there is something to see. */
async function until(what, look) {
  for (const end = Date.now() + PATIENCE_MS; Date.now() < end; await pause(50)) {
    const seen = await look();
    if (seen) return seen;
  }
  return assert.fail(`no ${what} in ${PATIENCE_MS} ms`);
}

/** Runs a command in a terminal; when its recording is stored, takes all there is of it. */
async function record(command, act) {
  const ticket = await login.asks(`/assets/${asset.id}/tty/authorize?command=${encodeURIComponent(command)}`);
  const pieces = [];
  const socket = login.dial(ticket, 0, (frame) => {
    if (frame.type === 'data') {
      pieces.push(frame.bytes);
      socket.parsed(frame.offset + frame.bytes.length);
    }
    act?.(socket, frame);
  });
  const { session_id: session } = await socket.ready;
  await socket.closed;
  const printed = Buffer.concat(pieces);
  const about = await until('stored recording', async () => {
    const recording = await login.asks(`/recordings/${session}`);
    return recording.state === 'stored' && recording;
  });
  const taken = { session, printed, about };
  for (const [part, name] of [['cast', 'cast'], ['index', 'index.json'], ['seal', 'seal']]) {
    const { bytes, name: called } = await login.takes(`/api/v1/recordings/${session}/${part}?download`);
    assert.equal(called, `${session}.${name}`);
    await writeFile(join(folder, called), bytes);
    taken[part] = bytes;
  }
  return taken;
}

/** Resizes once the old size is told, and types a key when that is done. */
function resized(socket, { type, bytes }) {
  if (type === 'data' && !socket.asked) {
    socket.seen = `${socket.seen ?? ''}${bytes}`;
    socket.asked = socket.seen.includes('24 80');
    if (socket.asked) socket.resize(100, 30);
  } else if (type === 'resized') {
    socket.resized ??= socket.type(0, Buffer.from('\n')) ?? true;
  }
}

const file = ({ session }, end = 'cast') => join(folder, `${session}.${end}`);
const output = ({ cast }) =>
  cast.toString().split('\n').slice(1, -1).map((line) => JSON.parse(line)).filter(([, code]) => code === 'o').map(([, , data]) => data).join('');

/** The object as it lies in the store. */
async function object({ session }) {
  const store = join(bastion.data, 'recordings');
  const found = (await readdir(store, { recursive: true })).filter((name) => name.endsWith(`${session}.cast.zst`));
  assert.equal(found.length, 1, `objects of ${session}: ${found}`);
  return join(store, found[0]);
}

test('what was shown is what is recorded', () => {
  for (const [name, recording] of Object.entries(recordings)) {
    assert.equal(output(recording), text(recording.printed), name);
    const index = JSON.parse(recording.index);
    assert.equal(index.output_sha256, hex(recording.printed), name);
    assert.equal(index.output_bytes, recording.printed.length, name);
  }
  assert.match(output(recordings.short), /red .*true.* 终端 城堡 e\u0301\r\n24 80\r\n[^]*30 100\r\n/);
  assert.equal(recordings.garbage.printed.length > 100_000, true, 'line feeds have become two bytes');
  assert.equal(recordings.empty.printed.length, 0);
  assert.equal(recordings.long.about.detail.segmented && recordings.long.cast.length > 6 << 20, true);
});

test('asciinema-player reads every cast whole', async () => {
  for (const [name, recording] of Object.entries(recordings)) {
    const player = await Player.of({ data: recording.cast.toString() });
    const events = recording.cast.toString().split('\n').slice(1, -1).map((line) => JSON.parse(line));
    assert.ok(Math.abs(player.duration - events.at(-1)[0]) < 1e-6, name);
    // It counts in milliseconds and back, which makes 0.08269999999999998 of 0.0827.
    const micros = ([at, label]) => [Math.round(at * 1e6), label];
    assert.deepEqual(player.markers.map(micros), events.filter(([, code]) => code === 'm').map(([at, , label]) => micros([at, label])), name);
    await player.seek('100%');
    assert.equal(player.output, text(recording.printed), name);
    player.stop();
  }
});

test("asciinema-player's segmented driver shows at any time what the whole cast shows", async (t) => {
  for (const [name, recording] of Object.entries(recordings)) {
    const url = `${bastion.url}/api/v1/recordings/${recording.session}/segments/index.json`;
    const whole = await Player.of({ data: recording.cast.toString() });
    const inParts = await Player.of({ url, format: 'segmented', fetchOpts: { headers: login.headers } });
    assert.equal(inParts.duration, whole.duration, name);
    assert.deepEqual(inParts.markers, whole.markers, name);
    const index = JSON.parse((await login.takes(new URL(url).pathname)).bytes);
    t.diagnostic(`${name}: ${index.segments.length} segments`);
    if (name === 'long') assert.ok(index.segments.length > 3, `${index.segments.length} segments`);
    // Each start, some moments after, and some in between: forwards, and a few of them backwards.
    const starts = index.segments.map(({ start }) => start);
    const after = starts.filter((_, nth) => nth % 3 === 1).map((start) => start + 0.004);
    const times = [...starts, ...after, ...[0.33, 0.77, 1].map((part) => part * whole.duration)].sort((a, b) => a - b);
    for (const time of [...times, ...times.toReversed().filter((_, nth) => nth % 5 === 2)]) {
      await whole.seek(time);
      await inParts.seek(time);
      assert.equal(difference(await inParts.state(), await whole.state()), null, `${name} at ${time} s`);
    }
    whole.stop();
    inParts.stop();
  }
});

test('every segment is what the driver demands, one after the other', async () => {
  const path = `/api/v1/recordings/${recordings.long.session}/segments`;
  const index = JSON.parse((await login.takes(`${path}/index.json`)).bytes);
  const events = [];
  for (const [nth, { start, url }] of index.segments.entries()) {
    const segment = JSON.parse((await login.takes(`${path}/${url}`)).bytes);
    if (nth > 0) assert.equal(segment.events[0][0], start, `segment ${nth} begins with its first event`);
    else assert.equal(start, 0);
    events.push(...segment.events);
  }
  assert.equal(events.at(-1)[0], index.duration);
  const cast = recordings.long.cast.toString().split('\n').slice(1, -1).map((line) => JSON.parse(line));
  assert.deepEqual(events, cast, 'together they are the cast');
});

test('zstd unpacks the stored object to the cast', { skip: without('zstd', 'zstd') }, async () => {
  for (const [name, recording] of Object.entries(recordings)) {
    const unpacked = execFileSync('zstd', ['-d', '-c', await object(recording)], { maxBuffer: 1 << 30 });
    assert.ok(unpacked.equals(recording.cast), name);
  }
});

test('sha256sum agrees on the cast and on every chunk', { skip: without('sha256sum', 'coreutils') }, async () => {
  const sum = (input) => execFileSync('sha256sum', { input }).toString().slice(0, 64);
  for (const [name, recording] of Object.entries(recordings)) {
    assert.equal(sum(recording.cast), recording.about.sha256, name);
    const { chunks } = JSON.parse(recording.index);
    for (const { n, plain_at: at, plain_len: len, sha256: told } of chunks) {
      assert.equal(sum(recording.cast.subarray(at, at + len)), told, `${name}, chunk ${n}`);
    }
  }
});

test('the chain follows from its published rule, and each chunk is a zstd frame of its own', { skip: without('zstd', 'zstd') }, async () => {
  for (const [name, recording] of Object.entries(recordings)) {
    const index = JSON.parse(recording.index);
    const stored = await readFile(await object(recording));
    let [chain, at, plainAt] = [sha256(jcs(index.facts)), 0, 0];
    for (const [n, chunk] of index.chunks.entries()) {
      assert.deepEqual([chunk.n, chunk.at, chunk.plain_at], [n, at, plainAt], name);
      const plain = recording.cast.subarray(plainAt, plainAt + chunk.plain_len);
      assert.ok(n + 1 === index.chunks.length || plain.length >= 256 << 10 || chunk.last - chunk.first < 10, `${name}: chunk ${n} is short`);
      assert.equal(plain.at(-1), 10, 'a chunk ends on a line');
      assert.ok(execFileSync('zstd', ['-d', '-c'], { input: stored.subarray(at, at + chunk.len), maxBuffer: 1 << 26 }).equals(plain));
      chain = sha256(chain, sha256(plain));
      assert.equal(chunk.chain, chain.toString('hex'), `${name}, chunk ${n}`);
      [at, plainAt] = [at + chunk.len, plainAt + chunk.plain_len];
    }
    assert.deepEqual([index.stored_len, index.plain_len], [at, plainAt], name);
    assert.deepEqual([stored.length, recording.cast.length], [at, plainAt], name);
    assert.equal(claims(recording).head, chain.toString('hex'), name);
  }
});

test('another JOSE library holds the seals for true, and no forged one', async () => {
  for (const [name, recording] of Object.entries(recordings)) {
    const seal = recording.seal.toString();
    const { protectedHeader } = await verified(seal, 'rec-');
    assert.deepEqual([protectedHeader.alg, protectedHeader.typ], ['EdDSA', 'castellan-seal+jwt'], name);
    const index = JSON.parse(recording.index);
    const { iat, head, ended, reason, ...told } = claims(recording);
    assert.ok(Number.isInteger(iat) && head && reason && ended >= index.facts.started, name);
    assert.deepEqual(told, {
      iss: bastion.url,
      sub: recording.session,
      facts: index.facts,
      chunks: index.chunks.length,
      plain_len: index.plain_len,
      output_bytes: index.output_bytes,
      output_sha256: index.output_sha256,
      lost_bytes: 0,
      recovered: false,
      input: false,
    });
    const [header, payload, signature] = seal.split('.');
    const forged = Buffer.from(JSON.stringify({ ...claims(recording), head: '00'.repeat(32) })).toString('base64url');
    assert.notEqual(payload, forged);
    await assert.rejects(verified([header, forged, signature].join('.'), 'rec-'), /signature verification failed/);
  }
});

test('the recipe in docs/recordings.md proves a recording, and no altered one', { skip: without('python3', 'python3') || without('openssl', 'openssl') }, async () => {
  const page = await readFile(new URL('../../../docs/recordings.md', import.meta.url), 'utf8');
  const recipe = page.match(/```python\n(.*?)```/s)[1];
  const proves = (session) => spawnSync('python3', ['-c', recipe, session], { cwd: folder, encoding: 'utf8' });
  for (const [name, { session }] of Object.entries(recordings)) {
    const { status, stdout, stderr } = proves(session);
    assert.equal(status, 0, `${name}: ${stderr}`);
    assert.ok(stdout.includes(`${session} is authentic and whole`), stdout);
  }
  const { cast, session } = recordings.short;
  const altered = Buffer.from(cast);
  altered[altered.length - 3] ^= 1;
  await writeFile(join(folder, `${session}.cast`), altered);
  const { status, stderr } = proves(session);
  await writeFile(join(folder, `${session}.cast`), cast);
  assert.ok(status !== 0 && stderr.includes('not what was sealed'), stderr);
});

test('the list of keys is signed by the identity key', async () => {
  const { bytes } = await login.takes('/.well-known/jwks.jws');
  const { protectedHeader, payload } = await verified(bytes.toString().trim(), 'id-');
  assert.deepEqual([protectedHeader.alg, protectedHeader.typ], ['EdDSA', 'castellan-keys+jwt']);
  assert.deepEqual(JSON.parse(Buffer.from(payload)).keys, keys);
});

const pinned = process.env.CASTELLAN_TEST_ASCIINEMA;
test('asciinema 2.4.0 prints what was shown', { skip: !pinned && 'CASTELLAN_TEST_ASCIINEMA does not name it (python3-venv, and PyPI)' }, () => {
  for (const [name, recording] of Object.entries(recordings)) {
    const played = spawnSync(pinned, ['cat', file(recording)], { env: { ...process.env, LC_ALL: 'C.UTF-8' }, maxBuffer: 1 << 30 });
    assert.equal(played.status, 0, `${name}: ${played.stderr}`);
    assert.ok(played.stdout.equals(Buffer.from(text(recording.printed))), name);
  }
});

const DEBIAN = '/usr/bin/asciinema';
const absent = without(DEBIAN, 'asciinema') || without('script', 'bsdutils');
test("Debian's asciinema prints what was shown", { skip: absent }, () => {
  for (const [name, recording] of Object.entries(recordings)) {
    // It wants a terminal, which adds carriage returns of its own.
    const command = `${DEBIAN} cat ${file(recording)}`;
    const played = spawnSync('script', ['-qec', command, '/dev/null'], {
      env: { ...process.env, LC_ALL: 'C.UTF-8' },
      maxBuffer: 1 << 30,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    assert.equal(played.status, 0, `${name}: ${played.stdout} ${played.stderr}`);
    const lines = (all) => all.toString().replaceAll(/\r+\n/g, '\n');
    assert.ok(lines(played.stdout) === lines(text(recording.printed)), name);
  }
});

test('castellan verify judges what was downloaded, by every exit code', async () => {
  for (const [name, recording] of Object.entries(recordings)) {
    const { code, verdict } = verify(file(recording));
    assert.deepEqual([code, verdict.verdict], [0, 'whole'], `${name}: ${JSON.stringify(verdict)}`);
    const { file: _, ...told } = verdict;
    assert.deepEqual(await login.asks(`/recordings/${recording.session}/verify`), { ...told, form: 'stored' }, name);
  }
  const recording = recordings.long;
  const beside = ['--index', file(recording, 'index.json'), '--seal', file(recording, 'seal')];
  const changed = async (name, bytes) => {
    await writeFile(join(folder, name), bytes);
    return join(folder, name);
  };
  const bytes = Buffer.from(recording.cast);
  bytes[bytes.length >> 1] ^= 1;
  const altered = verify(await changed('altered.cast', bytes), ...beside);
  const { chunks } = JSON.parse(recording.index);
  const bad = chunks.findLast(({ plain_at: at }) => at <= bytes.length >> 1).n;
  assert.deepEqual([altered.code, altered.verdict.verdict, altered.verdict.first_bad_chunk], [1, 'altered', bad]);
  const cut = verify(await changed('cut.cast', recording.cast.subarray(0, -100)), ...beside);
  assert.deepEqual([cut.code, cut.verdict.verdict], [2, 'incomplete']);
  const others = await changed('others.json', JSON.stringify({ keys: keys.map((key) => ({ ...key, kid: key.kid.replace('rec-', 'rec-another') })) }));
  const unknown = verify(file(recording), '--keys', others);
  assert.deepEqual([unknown.code, unknown.verdict.verdict], [3, 'unknown_key']);
  assert.equal(verify(join(folder, 'nothing.cast')).code, 4);
});

/** Why a program cannot be asked, and what to do; false if it can. */
function without(program, debian) {
  return spawnSync(program, ['--version']).error ? `${program} is missing (apt-get install ${debian})` : false;
}

/** RFC 8785 of an object whose values are strings and whole numbers. */
function jcs(facts) {
  return JSON.stringify(Object.fromEntries(Object.entries(facts).sort(([a], [b]) => (a < b ? -1 : 1))));
}

function claims({ seal }) {
  return JSON.parse(Buffer.from(seal.toString().split('.')[1], 'base64url'));
}

/** A compact JWS whose signature holds, by a published key of the right kind. */
async function verified(jws, kind) {
  const { kid } = decodeProtectedHeader(jws);
  assert.ok(kid.startsWith(kind), kid);
  const key = keys.find((key) => key.kid === kid);
  assert.ok(key, `${kid} is not published`);
  return compactVerify(jws, await importJWK(key, 'EdDSA'), { algorithms: ['EdDSA'] });
}

function verify(cast, ...more) {
  const named = more.includes('--keys') ? [] : ['--keys', join(folder, 'jwks.json')];
  const { status, stdout } = spawnSync(process.env.CASTELLAN_BIN, ['verify', '--json', cast, ...named, ...more]);
  return { code: status, verdict: JSON.parse(stdout.toString() || 'null') };
}
