// What the mock knows: a small fleet, some history.
import { longSession, seal, shortSession } from './sealed.mjs';

const ago = (seconds) => new Date(Date.now() - seconds * 1000).toISOString();
const GiB = 2 ** 30;

export const me = { id: 'u-1', username: 'admin', role: 'admin', groups: ['ops'], login: { created_at: ago(900), expires_at: ago(-40000) } };

const machine = (version, cores, memory) => ({
  os: 'Debian GNU/Linux',
  os_version: version,
  kernel: '6.12.41-amd64',
  arch: 'x86_64',
  cpu: { model: 'AMD EPYC 7543P 32-Core Processor', cores },
  memory_total: memory * GiB,
  disks: [{ mount: '/', total: 120 * GiB, fs: 'ext4' }, { mount: '/var/lib/mysql', total: 900 * GiB, fs: 'xfs' }],
  nics: [{ name: 'eth0', addresses: ['10.20.0.14', 'fe80::5054:ff:fe12:3456'] }],
});
const load = (cpu, memory, total) => ({
  cpu_percent: cpu,
  memory_used: memory * GiB,
  memory_total: total * GiB,
  load: [0.42, 0.5, 0.61],
  disks: [{ mount: '/', used: 47 * GiB, total: 120 * GiB }, { mount: '/var/lib/mysql', used: 843 * GiB, total: 900 * GiB }],
  uptime: 1_234_567,
});
export const asset = (id, hostname, status, labels, extra = {}) => ({
  id,
  hostname,
  labels,
  proposed_labels: {},
  status,
  last_heartbeat_at: ago(status === 'online' ? 12 : 5400),
  version: '0.1.0',
  allowed_users: ['u-1', 'u-2'],
  run_as: null,
  static_info: machine('13', 8, 32),
  dynamic_info: load(23.4, 11.2, 32),
  fingerprint: 'SHA256:3pQ0hXbSOmVvR1g7oX4n8mXzqk1ZC2sTtUoLwXyP0aE',
  created_at: ago(86400 * 40),
  access: { effect: 'allow', code: null, detail: null },
  ...extra,
});

export const assets = [
  asset('0190a1b2-0001', 'web-1', 'online', { env: 'prod', role: 'web', region: 'eu-central' }),
  asset('0190a1b2-0002', 'web-2', 'online', { env: 'prod', role: 'web', region: 'eu-central' }),
  asset('0190a1b2-0003', 'db-primary.internal.example.org', 'online', { env: 'prod', role: 'database' }, {
    access: { effect: 'challenge', code: 'approval_required', detail: 'Production databases need a second pair of eyes.' },
    static_info: machine('12', 32, 256),
  }),
  asset('0190a1b2-0004', 'build-runner-7', 'offline', { env: 'ci' }, { access: { effect: 'deny', code: 'asset_offline', detail: null } }),
  asset('0190a1b2-0005', 'storage-3', 'maintenance', { env: 'prod', role: 'storage' }),
  asset('0190a1b2-0006', 'finance-1', 'online', { env: 'prod' }, {
    access: { effect: 'deny', code: 'outside_window', detail: 'Open on weekdays, 09:00–18:00.' },
    static_info: null,
    dynamic_info: null,
  }),
];

const registration = (id, hostname, status, extra = {}) => ({
  id,
  client_id: `0190c0de-${id}`,
  hostname,
  fingerprint: 'SHA256:Zk9pYtq1rB2yW8mC0uN5sQ7dV3xJ6aE4hL1oG8iTfRk',
  labels: { env: 'staging', role: 'worker' },
  static_info: machine('13', 4, 8),
  version: '0.1.0',
  status,
  key_changed: false,
  address: '10.20.3.7',
  created_at: ago(94),
  decided_at: null,
  decided_by: null,
  reason: null,
  ...extra,
});
export const registrations = [
  registration('r-1', 'worker-12', 'pending', { labels: { journey: 'second', role: 'worker' } }),
  registration('r-2', 'web-1', 'pending', { key_changed: true, address: '198.51.100.23', labels: {}, created_at: ago(3700) }),
  registration('r-3', 'old-box', 'rejected', { decided_at: ago(7200), decided_by: 'u-1', reason: 'Not ours.' }),
];

const session = (id, user, hostname, status, started, length, extra = {}) => ({
  id,
  user: { id: user === 'admin' ? 'u-1' : 'u-2', username: user },
  asset: { id: '0190a1b2-0001', hostname },
  status,
  end_reason: status === 'closed' ? 'exit' : null,
  command: null,
  address: '203.0.113.9',
  cols: 120,
  rows: 40,
  created_at: ago(started),
  started_at: ago(started),
  ended_at: length === null ? null : ago(started - length),
  exit_code: status === 'closed' ? 0 : null,
  exit_signal: null,
  recording: length === null ? 'recording' : 'stored',
  ...extra,
});
export const sessions = [
  session('0190f001', 'admin', 'web-1', 'active', 340, null),
  session('0190f002', 'mira', 'db-primary.internal.example.org', 'detached', 5200, null),
  session('0190f006', 'admin', 'web-2', 'detached', 7200, null, { command: 'make -j8 world' }),
  session('0190f007', 'jürgen', 'storage-3', 'resuming', 610, null),
  session('0190f003', 'admin', 'web-2', 'closed', 9000, 1284),
  session('0190f004', 'mira', 'web-1', 'closed', 86000, 42, { exit_code: 130, command: 'journalctl -fu nginx' }),
  session('0190f005', 'jürgen', 'storage-3', 'error', 190000, 20, { end_reason: 'host_gone', exit_code: null }),
];

const recording = (s, state, extra = {}) => ({
  session_id: s.id,
  user: s.user,
  asset: s.asset,
  state,
  reason: null,
  size: 18_233,
  plain_size: 141_822,
  sha256: 'b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9',
  duration: s.ended_at ? (Date.parse(s.ended_at) - Date.parse(s.started_at)) / 1000 : null,
  started_at: s.started_at,
  ended_at: s.ended_at,
  hold: false,
  ...extra,
});
const detail = (extra = {}) => ({ end_reason: 'exit', exit_code: 0, exit_signal: null, recovered: false, output_bytes: 131_000, lost_bytes: 0, chunks: 3, segmented: false, records_input: false, deletes_at: ago(-86400 * 80), ...extra });
export const recordings = [
  recording(sessions[0], 'recording', { size: null, plain_size: null, sha256: null }),
  recording(sessions[4], 'stored'),
  recording(sessions[5], 'uploading', { size: null }),
  recording(sessions[6], 'failed', { reason: 'The disk was full.', size: null, plain_size: 0, sha256: null }),
];

export const users = [
  { id: 'u-1', username: 'admin', role: 'admin', groups: ['ops'], disabled: false, created_at: ago(86400 * 60), last_login_at: ago(900) },
  { id: 'u-2', username: 'mira', role: 'user', groups: ['ops', 'dba'], disabled: false, created_at: ago(86400 * 31), last_login_at: ago(7200) },
  { id: 'u-3', username: 'jürgen', role: 'auditor', groups: [], disabled: false, created_at: ago(86400 * 12), last_login_at: null },
  { id: 'u-4', username: 'former.colleague', role: 'user', groups: ['ops'], disabled: true, created_at: ago(86400 * 400), last_login_at: ago(86400 * 90) },
];

export const tokens = [
  { id: 't-1', name: 'deploy pipeline', role: 'user', created_at: ago(86400 * 9), expires_at: ago(-86400 * 81), last_used_at: ago(340) },
  { id: 't-2', name: 'old script', role: 'auditor', created_at: ago(86400 * 99), expires_at: ago(86400 * 9), last_used_at: null },
];

const event = (id, seconds, name, action, target, detail = {}) => ({
  id,
  at: ago(seconds),
  actor: { kind: name === 'web-1' ? 'agent' : 'user', id: 'u-1', name },
  action,
  target,
  address: '203.0.113.9',
  detail,
});
export const audit = [
  event('a-1', 340, 'admin', 'session.open', { kind: 'session', id: '0190f001-7c2e-7a11-9f10-2b8f7c0a11ee' }, { asset: '0190a1b2-0001', decision: 'd-77' }),
  event('a-2', 900, 'admin', 'login', null),
  event('a-3', 1200, 'web-1', 'heartbeat.first', { kind: 'asset', id: '0190a1b2-0001' }),
  event('a-4', 7200, 'mira', 'recording.view', { kind: 'recording', id: '0190f004' }),
  event('a-5', 9000, 'admin', 'registration.reject', { kind: 'registration', id: 'r-3' }, { reason: 'Not ours.' }),
];

export const policy = {
  version: 3,
  comment: 'Business hours for finance.',
  activated_at: ago(86400 * 3),
  document: {
    version: 1,
    chain: [
      { name: 'state', module: 'asset_state' },
      { name: 'grants', module: 'allowed_users' },
      { name: 'finance-hours', module: 'time_window', match: { labels: 'team=finance' }, params: { days: 'mon-fri', from: '09:00', to: '18:00' } },
      { name: 'two-each', module: 'concurrency', params: { per_user: 2 } },
      { name: 'tickets', module: 'rate_limit', params: { per_minute: 60 } },
    ],
  },
};
export const simulation = {
  effect: 'deny',
  code: 'outside_window',
  trail: [
    { policy: 'state', module: 'asset_state', kind: 'guard', verdict: 'pass', code: null, text: 'The host is online.', micros: 3, shadow: false },
    { policy: 'grants', module: 'allowed_users', kind: 'grant', verdict: 'allow', code: null, text: 'mira is among the allowed users.', micros: 7, shadow: false },
    { policy: 'finance-hours', module: 'time_window', kind: 'guard', verdict: 'deny', code: 'outside_window', text: 'It is Saturday; the window is Monday to Friday, 09:00 to 18:00.', micros: 11, shadow: false },
    { policy: 'two-each', module: 'concurrency', kind: 'guard', verdict: 'pass', code: null, text: '0 of 2 terminals open.', micros: 42, shadow: true },
  ],
  obligations: { record: 'required', max_time: '8h', watermark: true },
};

const past = (id, user, hostname, started, length) => session(id, user, hostname, 'closed', started, length);
recordings.splice(
  2,
  0,
  recording(past('0190f010', 'mira', 'build-runner-7', 86400 * 3, 3600), 'stored', { hold: true, plain_size: 8_400_000, size: 1_010_000 }),
  recording(past('0190f011', 'jürgen', 'storage-3', 86400 * 5, 90), 'stored'),
  recording(past('0190f012', 'mira', 'db-primary.internal.example.org', 86400 * 9, 700), 'stored'),
  recording(past('0190f013', 'mira', 'build-runner-7', 86400 * 12, 3600), 'stored', { plain_size: 8_400_000, size: 1_010_000 }),
  recording(past('0190f014', 'admin', 'web-2', 86400 * 20, 90), 'stored'),
);

/** What lies behind a recording, made when it is first asked for. */
const made = new Map();
export function behind(recording) {
  const id = recording.session_id;
  if (made.has(id)) return made.get(id);
  const long = recording.plain_size > 4 << 20;
  const session = long ? longSession() : shortSession();
  const sealed = seal(recording, session.events, long ? {} : { step: 2048, claims: id === '0190f014' ? { recovered: true } : {} });
  if (id === '0190f011') sealed.cast[sealed.cast.length - 900] ^= 1;
  const all = { ...session, ...sealed, detail: detail({ segmented: long, chunks: sealed.claims.chunks, recovered: sealed.claims.recovered, records_input: id === '0190f003' }) };
  made.set(id, all);
  return all;
}
