// A stand-in for the bastion, to look at the pages without one: the built files under the bastion's CSPs, invented data
// and a real shell behind the terminal socket. No part of it is shipped. MOCK=empty|error|slow shows those states.
import { execFile, spawn } from 'node:child_process';
import { mkdtempSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { extname, join, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';
import * as data from './fixtures.mjs';
import { upgrade } from './websocket.mjs';

const DIST = fileURLToPath(new URL('../../dist', import.meta.url));
const TYPES = { '.html': 'text/html; charset=utf-8', '.js': 'text/javascript', '.css': 'text/css', '.svg': 'image/svg+xml', '.json': 'application/json' };
const BASE =
  "default-src 'none'; connect-src 'self'; img-src 'self' data:; font-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; style-src 'self' 'unsafe-inline'";
const CSP = { 'player.html': `${BASE}; script-src 'self' 'wasm-unsafe-eval'`, other: `${BASE}; script-src 'self'` };

const page = (items) => ({ items, next_cursor: null });
const find = (list, key, id) => list.find((item) => item[key] === id);

export function start({ mood = '', port = 0, signedIn = true } = {}) {
  const state = { mood, signedIn };
  const server = createServer((request, response) => handle(request, response, state));
  server.on('upgrade', (request, socket) => terminal(request, socket));
  return new Promise((resolve) => {
    server.listen(port, '127.0.0.1', () => resolve({ url: `http://127.0.0.1:${server.address().port}`, state, close: () => server.close() }));
  });
}

async function handle(request, response, state) {
  const url = new URL(request.url, 'http://mock');
  if (url.pathname.startsWith('/api/v1/')) {
    let body = '';
    for await (const chunk of request) body += chunk;
    const [status, value] = answer(request, url, state, body && JSON.parse(body));
    if (status === 'hang') return;
    const text = typeof value === 'string' ? value : value === undefined ? '' : JSON.stringify(value);
    response.writeHead(status, { 'content-type': status >= 400 ? 'application/problem+json' : 'application/json', 'cache-control': 'no-store' });
    return response.end(text);
  }
  if (url.pathname === '/openapi.json') {
    response.writeHead(200, { 'content-type': 'application/json' });
    return response.end(JSON.stringify(SPEC));
  }
  const file = /^\/assets\//.test(url.pathname)
    ? normalize(url.pathname).slice(1)
    : /^\/recordings\/[^/]+$/.test(url.pathname)
      ? 'player.html'
      : url.pathname === '/docs'
        ? 'docs.html'
        : 'index.html';
  try {
    const bytes = await readFile(join(DIST, file));
    response.writeHead(200, { 'content-type': TYPES[extname(file)] ?? 'application/octet-stream', 'content-security-policy': CSP[file] ?? CSP.other });
    response.end(bytes);
  } catch {
    response.writeHead(404).end();
  }
}

const problem = (status, code, title, detail) => [status, { title, status, code, detail }];

function answer(request, url, state, body) {
  const path = url.pathname.slice('/api/v1'.length);
  const [, kind, id, rest] = path.split('/');
  const { method } = request;
  if (path === '/login') {
    if (body.password !== 'correct horse') return problem(401, 'bad_credentials', 'Wrong user name or password');
    state.signedIn = true;
    return [200, data.me];
  }
  if (path === '/logout') state.signedIn = false;
  if (!state.signedIn) return path === '/logout' ? [204] : problem(401, 'unauthenticated', 'Sign in first');
  if (path === '/me') return [200, data.me];
  if (state.mood === 'slow') return ['hang'];
  if (state.mood === 'error') return problem(503, 'unavailable', 'The database does not answer', 'It is tried again by itself; running terminals are not affected.');
  const list = (items) => [200, page(state.mood === 'empty' ? [] : items)];
  if (method === 'DELETE') return [204];
  switch (kind) {
    case 'assets':
      if (rest === 'tty') return authorize(request, id);
      if (id) return [200, { ...find(data.assets, 'id', id), ...body }];
      return list(data.assets.filter((a) => a.hostname.includes(url.searchParams.get('q') ?? '') && a.status.includes(url.searchParams.get('status') ?? '')));
    case 'registrations':
      return list(data.registrations.filter((r) => r.status === (url.searchParams.get('status') || r.status)));
    case 'approve': {
      const registration = find(data.registrations, 'id', body.id);
      const asset = data.asset(registration.client_id, registration.hostname, 'online', body.labels ?? {});
      registration.status = 'approved';
      data.assets.push(asset);
      return [200, { status: 'approved', asset }];
    }
    case 'reject':
      return problem(409, 'already_decided', 'Already decided', 'Someone else decided on this application a moment ago.');
    case 'sessions':
      return id ? [200, find(data.sessions, 'id', id)] : list(data.sessions.filter((s) => s.status.includes(url.searchParams.get('state') ?? '')));
    case 'recordings':
      if (rest === 'cast') return [200, id === '0190f004' ? 'this is no cast' : data.cast()];
      if (id) return find(data.recordings, 'session_id', id) ? [200, find(data.recordings, 'session_id', id)] : problem(404, 'not_found', 'No such recording');
      return list(data.recordings);
    case 'users':
      return method === 'GET' ? list(data.users) : [201, data.users[1]];
    case 'tokens':
      return method === 'GET' ? list(data.tokens) : [201, { ...data.tokens[0], ...body, token: 'cst_9pQ0hXbSOmVvR1g7oX4n8mXzqk1ZC2sTtUoLwXyP0aE' }];
    case 'audit':
      return list(data.audit);
    case 'policies':
      return [200, id === 'simulate' ? data.simulation : data.policy];
    default:
      return problem(404, 'not_found', 'Not found');
  }
}

function authorize(request, id) {
  const asset = find(data.assets, 'id', id);
  if (!asset) return problem(404, 'not_available', 'Not available');
  if (asset.access.effect === 'deny') return problem(403, asset.access.code, 'Not now', asset.access.detail ?? '');
  if (asset.access.effect === 'challenge') return [202, { status: 'waiting', request_id: 'q-1' }];
  return [200, { token: 'mock', ws_url: `ws://${request.headers.host}/api/v1/tty/ws`, expires_in: 300, session: { command: null, cols: 80, rows: 24 } }];
}

/** The framed protocol with a shell on a pseudo-terminal of `script`, whose size `stty` sets from outside. */
function terminal(request, socket) {
  const directory = mkdtempSync(join(tmpdir(), 'castellan-mock-'));
  let shell = null;
  let sent = 0;
  let taken = 0;
  const frame = (type, ...parts) => ws.send(Buffer.concat([Buffer.from([type]), ...parts]));
  const u64 = (n) => {
    const b = Buffer.alloc(8);
    b.writeBigUInt64BE(BigInt(n));
    return b;
  };
  const control = (value) => frame(3, Buffer.from(JSON.stringify(value)));
  const ws = upgrade(request, socket, 'castellan.tty.v1', {
    message(bytes) {
      if (bytes[0] === 3 && JSON.parse(bytes.subarray(1)).type === 'hello') setTimeout(open, Number(process.env.MOCK_DELAY ?? 300));
      else if (bytes[0] === 2) resize(bytes.readUInt16BE(1), bytes.readUInt16BE(3));
      else if (bytes[0] === 0) {
        taken += bytes.length - 9;
        shell?.stdin.write(bytes.subarray(9));
        frame(1, u64(taken));
      }
    },
    closed: () => shell?.kill('SIGHUP'),
  });

  function resize(cols, rows) {
    const tty = join(directory, 'tty');
    execFile('sh', ['-c', `stty -F "$(cat ${tty})" cols ${cols} rows ${rows}`], () => {});
  }

  function open() {
    const env = { PATH: process.env.PATH, HOME: '/tmp', LANG: 'C.UTF-8', TERM: 'xterm-256color', PS1: '\\[\\e[1;32m\\]admin@web-1\\[\\e[0m\\]:\\[\\e[1;34m\\]\\w\\[\\e[0m\\]$ ' };
    shell = spawn('script', ['-qefc', `tty > ${directory}/tty; exec bash --norc`, '/dev/null'], { env, cwd: '/' });
    // The size asked for at once must find the terminal there.
    let ready = false;
    setTimeout(() => {
      control({ type: 'ready', session_id: '0190f003', cols: 80, rows: 24, input: 0 });
      ready = true;
    }, 150);
    shell.stdout.on('data', (bytes) => {
      if (!ready) return void setTimeout(() => shell.stdout.emit('data', bytes), 50);
      for (let at = 0; at < bytes.length; at += 32768) {
        const piece = bytes.subarray(at, at + 32768);
        frame(0, u64(sent), piece);
        sent += piece.length;
      }
    });
    shell.on('exit', (code) => {
      control({ type: 'exit', code, signal: null });
      ws.close(1000, '');
    });
    if (process.env.MOCK_CLOSING) control({ type: 'closing', reason: 'Terminals on this host end at 18:00.', in_seconds: 240 });
  }
}

const SPEC = {
  openapi: '3.0.0',
  info: { title: 'Castellan', version: '0.1.0', description: 'The API of the bastion.' },
  servers: [{ url: '/api/v1' }],
  paths: {
    '/me': { get: { tags: ['People'], summary: 'Who am I', operationId: 'me', responses: { 200: { description: 'You' } } } },
    '/registrations': {
      get: {
        tags: ['Enrolment'],
        summary: 'Applications',
        operationId: 'list_registrations',
        parameters: [{ name: 'status', in: 'query', schema: { type: 'string' } }],
        responses: { 200: { description: 'A page of them' } },
      },
    },
    '/approve': {
      post: {
        tags: ['Enrolment'],
        summary: 'Approve an application',
        operationId: 'approve',
        requestBody: { content: { 'application/json': { schema: { type: 'object', properties: { id: { type: 'string' } } } } } },
        responses: { 200: { description: 'Approved' } },
      },
    },
  },
};

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { url } = await start({ mood: process.env.MOCK ?? '', port: Number(process.env.PORT ?? 8090), signedIn: !process.env.MOCK_SIGNED_OUT });
  console.log(`mock at ${url}; password: correct horse`);
}
