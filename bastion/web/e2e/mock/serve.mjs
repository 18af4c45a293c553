// A stand-in for the bastion, to look at the pages without one: the built files under the bastion's CSPs, invented data
// and a real shell behind the terminal socket. No part of it is shipped. MOCK=empty|error|slow shows those states.
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { extname, join, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';
import * as data from './fixtures.mjs';
import { keys } from './sealed.mjs';
import { live, primary, terminal } from './shells.mjs';

const inState = (session, state) => !state || session.status === state || (state === 'live' && !session.ended_at);
const DIST = fileURLToPath(new URL('../../dist', import.meta.url));
const TYPES = { '.html': 'text/html; charset=utf-8', '.js': 'text/javascript', '.css': 'text/css', '.svg': 'image/svg+xml', '.json': 'application/json' };
const BASE =
  "default-src 'none'; connect-src 'self'; img-src 'self' data:; font-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; style-src 'self' 'unsafe-inline'";
const CSP = { 'player.html': `${BASE}; script-src 'self' 'wasm-unsafe-eval'`, other: `${BASE}; script-src 'self'` };

const page = (items) => ({ items, next_cursor: null });
const find = (list, key, id) => list.find((item) => item[key] === id);

export function start({ mood = '', port = 0, signedIn = true } = {}) {
  // `end_reason`: what a reattach is told; `expired`: it is told to sign in.
  const state = { mood, signedIn, end_reason: '', expired: false };
  const server = createServer((request, response) => handle(request, response, state));
  server.on('upgrade', (request, socket) => (request.url.endsWith('/live') ? live(request, socket) : terminal(request, socket)));
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
    const text = Buffer.isBuffer(value) ? value : typeof value === 'string' ? value : value === undefined ? '' : JSON.stringify(value);
    response.writeHead(status, { 'content-type': status >= 400 ? 'application/problem+json' : 'application/json', 'cache-control': 'no-store' });
    return response.end(text);
  }
  if (url.pathname === '/.well-known/jwks.json') {
    response.writeHead(200, { 'content-type': 'application/json' });
    return response.end(JSON.stringify(keys));
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
    state.expired = false;
    return [200, data.me];
  }
  if (path === '/logout') state.signedIn = false;
  if (!state.signedIn) return path === '/logout' ? [204] : problem(401, 'unauthenticated', 'Sign in first');
  if (path === '/me') return [200, data.me];
  if (state.mood === 'slow') return ['hang'];
  if (state.mood === 'error') return problem(503, 'unavailable', 'The database does not answer', 'It is tried again by itself; running terminals are not affected.');
  const list = (items) => [200, page(state.mood === 'empty' ? [] : items)];
  if (method === 'DELETE') {
    if (kind === 'recordings' && find(data.recordings, 'session_id', id).hold) return problem(409, 'held', 'It is held', 'Release it first.');
    if (kind === 'sessions') primary.end();
    return [204];
  }
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
      if (rest === 'reattach') return reattach(request, url, state);
      if (primary.status) Object.assign(data.sessions[0], { status: primary.status, end_reason: primary.status === 'closed' ? 'closed' : null });
      return id ? [200, find(data.sessions, 'id', id)] : list(data.sessions.filter((s) => inState(s, url.searchParams.get('state'))));
    case 'recordings':
      if (id === 'search') return search(url);
      return id ? recording(url, id, rest, method, body) : list(data.recordings);
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

const DAMAGED = problem(502, 'recording_damaged', 'The recording is damaged', 'Chunk 2 of the recording is not what was stored.');

function recording(url, id, rest, method, body) {
  const found = find(data.recordings, 'session_id', id);
  if (!found) return problem(404, 'not_found', 'No such recording');
  if (method === 'PATCH') Object.assign(found, { hold: body.hold });
  const { pathname } = url;
  if (!rest && found.state !== 'stored') return [200, { ...found, detail: null }];
  if (rest === 'cast' && id === '0190f004') return [200, 'this is no cast'];
  if (rest && rest !== 'cast' && found.state !== 'stored' && rest !== 'transcript') return problem(409, 'not_stored', 'It is not stored yet');
  const all = data.behind(found);
  const q = url.searchParams.get('q')?.toLowerCase();
  switch (rest) {
    case undefined:
      return [200, { ...found, detail: all.detail }];
    case 'cast':
      return id === '0190f012' ? DAMAGED : [200, all.cast];
    case 'index':
    case 'seal':
      return [200, all[rest]];
    case 'commands':
      return [200, { items: all.commands }];
    case 'transcript': {
      const lines = all.lines.filter(({ line }) => !q || line.toLowerCase().includes(q));
      return [200, `[${lines.map((line) => JSON.stringify(line)).join(',\n')}]\n`];
    }
    case 'verify':
      return [200, { verdict: 'altered', recovered: false, first_bad_chunk: 2, findings: [{ code: 'chunk', message: 'chunk 2 is not what was recorded', chunk: 2 }], kid: all.claims.kid, seal: all.claims, chunks: all.claims.chunks }];
    case 'segments': {
      const name = pathname.split('/').pop();
      return id === '0190f013' && name === '1.json' ? problem(503, 'recording_unavailable', 'The store does not answer', 'The store of recordings cannot be reached now. Try again in a while.') : [200, all.piece(name)];
    }
    default:
      return problem(404, 'not_found', 'Not found');
  }
}

/** Two recordings a request. */
function search(url) {
  const q = url.searchParams.get('q').toLowerCase();
  const from = Number(url.searchParams.get('cursor') ?? 0);
  const stored = data.recordings.filter(({ state }) => state === 'stored');
  const items = stored.slice(from, from + 2).flatMap((recording) => {
    const lines = data.behind(recording).lines.filter(({ line }) => line.toLowerCase().includes(q));
    return lines.length ? [{ recording, lines: lines.slice(0, 5), more: lines.length > 5 }] : [];
  });
  const next = from + 2 < stored.length && from < 4 ? String(from + 2) : null;
  return [200, { items, next_cursor: next, searched_to: stored[Math.min(from + 1, stored.length - 1)].started_at, unreadable: 0 }];
}

function authorize(request, id) {
  const asset = find(data.assets, 'id', id);
  if (!asset) return problem(404, 'not_available', 'Not available');
  if (asset.access.effect === 'deny') return problem(403, asset.access.code, 'Not now', asset.access.detail ?? '');
  if (asset.access.effect === 'challenge') return [202, { status: 'waiting', request_id: 'q-1' }];
  return [200, { token: 'new', ws_url: `ws://${request.headers.host}/api/v1/tty/ws`, expires_in: 300, session: { command: null, cols: 80, rows: 24, records_input: false } }];
}

function reattach(request, url, state) {
  if (state.expired) return problem(401, 'unauthenticated', 'Sign in first');
  if (state.mood === 'away') return problem(503, 'unavailable', 'The database does not answer', 'It is tried again by itself.');
  const end_reason = state.end_reason || (primary.status === 'closed' && 'closed');
  if (end_reason) return [409, { title: 'The session is over', status: 409, code: 'ended', detail: '', end_reason }];
  const token = url.searchParams.get('mode') === 'watch' ? 'watch' : 'control';
  return [200, { token, ws_url: `ws://${request.headers.host}/api/v1/tty/ws`, expires_in: 300, session: { command: null, cols: 80, rows: 24, records_input: false } }];
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
