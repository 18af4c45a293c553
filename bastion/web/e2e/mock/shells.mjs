// The framed protocol around one real shell, on a pseudo-terminal of `script` whose size `stty` sets from outside. It
// outlives its sockets; who comes back gets what was missing, who comes with nothing a "screen": all of it once more.
import { execFile, spawn } from 'node:child_process';
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { upgrade } from './websocket.mjs';

const ENV = { PATH: process.env.PATH, HOME: '/tmp', LANG: 'C.UTF-8', TERM: 'xterm-256color', PS1: '\\[\\e[1;32m\\]admin@web-1\\[\\e[0m\\]:\\[\\e[1;34m\\]\\w\\[\\e[0m\\]$ ' };
let current = null;

let begun = false;

/** The session there is, and the socket the page has to it, to be cut or warned. */
export const primary = {
  get status() {
    if (!begun) return null;
    return current ? (current.owner ? 'active' : 'detached') : 'closed';
  },
  cut: (code, reason = '') => current?.owner?.close(code, reason),
  closing: (reason, seconds) => current?.owner?.control({ type: 'closing', reason, in_seconds: seconds }),
  end() {
    current?.child.kill('SIGHUP');
    current = null;
  },
};

function begin() {
  const directory = mkdtempSync(join(tmpdir(), 'castellan-mock-'));
  const child = spawn('script', ['-qefc', `tty > ${directory}/tty; exec bash --norc`, '/dev/null'], { env: ENV, cwd: '/' });
  const shell = { child, directory, output: Buffer.alloc(0), taken: 0, cols: 80, rows: 24, owner: null, watchers: new Set() };
  child.stdout.on('data', (bytes) => {
    shell.output = Buffer.concat([shell.output, bytes]);
    for (const client of clients(shell)) client.pump();
  });
  child.on('exit', (code) => {
    for (const client of clients(shell)) {
      client.control({ type: 'exit', code, signal: null });
      client.close(1000, '');
    }
    if (current === shell) current = null;
  });
  return shell;
}

const clients = (shell) => [...(shell.owner ? [shell.owner] : []), ...shell.watchers];

export function terminal(request, socket) {
  const watching = request.headers['sec-websocket-protocol'].includes('ticket.watch');
  const fresh = request.headers['sec-websocket-protocol'].includes('ticket.new');
  let shell = null;
  let sent = 0;
  let ready = false;
  const frame = (type, ...parts) => ws.send(Buffer.concat([Buffer.from([type]), ...parts]));
  const u64 = (n) => {
    const b = Buffer.alloc(8);
    b.writeBigUInt64BE(BigInt(n));
    return b;
  };
  const client = {
    control: (value) => frame(3, Buffer.from(JSON.stringify(value))),
    close: (code, reason) => ws.close(code, reason),
    pump() {
      if (!ready) return;
      for (; sent < shell.output.length; sent += 32768) frame(0, u64(sent), shell.output.subarray(sent, sent + 32768));
      sent = shell.output.length;
    },
  };
  const ws = upgrade(request, socket, 'castellan.tty.v1', {
    message(bytes) {
      if (bytes[0] === 3 && JSON.parse(bytes.subarray(1)).type === 'hello') return void setTimeout(open, Number(process.env.MOCK_DELAY ?? 300), JSON.parse(bytes.subarray(1)).have);
      if (watching || !shell) return;
      if (bytes[0] === 2) resize(bytes.readUInt16BE(1), bytes.readUInt16BE(3));
      if (bytes[0] === 0) {
        shell.taken += bytes.length - 9;
        shell.child.stdin.write(bytes.subarray(9));
        frame(1, u64(shell.taken));
      }
    },
    closed() {
      if (shell?.owner === client) shell.owner = null;
      if (shell?.watchers.delete(client)) shell.owner?.control({ type: 'peers', count: shell.watchers.size });
    },
  });

  function resize(cols, rows) {
    Object.assign(shell, { cols, rows });
    execFile('sh', ['-c', `stty -F "$(cat ${join(shell.directory, 'tty')})" cols ${cols} rows ${rows}`], () => {});
    const size = Buffer.alloc(12);
    size.writeBigUInt64BE(BigInt(sent));
    size.writeUInt16BE(cols, 8);
    size.writeUInt16BE(rows, 10);
    for (const each of clients(shell)) each.resized?.(size);
  }
  client.resized = (size) => frame(4, size);

  function open(have) {
    if (fresh || !current) {
      current?.child.kill('SIGHUP');
      current = begin();
      begun = true;
    }
    shell = current;
    // The size asked for at once must find the terminal there.
    setTimeout(() => {
      if (watching) shell.watchers.add(client);
      else {
        shell.owner?.close(4409, '');
        shell.owner = client;
      }
      client.control({ type: 'ready', session_id: '0190f001', cols: shell.cols, rows: shell.rows, input: shell.taken });
      if (shell.watchers.size > 0) shell.owner?.control({ type: 'peers', count: shell.watchers.size });
      ready = true;
      sent = have;
      if (!fresh && have === 0) {
        const at = shell.output.length;
        frame(6, u64(at), Buffer.from([0]), shell.output.subarray(Math.max(0, at - 16000)));
        frame(6, u64(at), Buffer.from([1]));
        sent = at;
      }
      client.pump();
    }, 150);
  }
}

/** A live stream (ALiS) of invented output. */
export function live(request, socket) {
  const varint = (n) => {
    const bytes = [];
    for (let left = n; ; left = Math.floor(left / 128)) {
      bytes.push((left % 128) | (left >= 128 ? 128 : 0));
      if (left < 128) return Buffer.from(bytes);
    }
  };
  const string = (text) => Buffer.concat([varint(Buffer.byteLength(text)), Buffer.from(text)]);
  let id = 0;
  const ws = upgrade(request, socket, 'v1.alis', { message() {}, closed: () => clearInterval(timer) });
  ws.send(Buffer.from('ALiS\x01'));
  const prompt = '\x1b[1;32mmira@db-primary\x1b[0m:\x1b[1;34m~\x1b[0m$ ';
  ws.send(Buffer.concat([Buffer.from([1]), varint(0), varint(5_000_000), varint(110), varint(30), Buffer.from([0]), string(`${prompt}tail -f /var/log/postgresql.log\r\n`)]));
  const timer = setInterval(() => ws.send(Buffer.concat([Buffer.from('o'), varint(++id), varint(200_000), string(`2026-01-12 10:04:${10 + id} LOG: checkpoint complete: wrote ${id * 37} buffers\r\n`)])), 200);
}
