import { beforeEach, describe, expect, it } from 'vitest';
import type { Ending } from './close';
import { ACK_BYTES, ACK_MS, type Clock, Connection, type Listener, SILENCE_MS, type Transport } from './connection';
import { type Frame, decode, encode } from './frames';

class FakeClock implements Clock {
  time = 0;
  #timers: { at: number; run: () => void }[] = [];
  now = () => this.time;
  after = (ms: number, run: () => void) => {
    const timer = { at: this.time + ms, run };
    this.#timers.push(timer);
    return () => {
      this.#timers = this.#timers.filter((t) => t !== timer);
    };
  };
  pass(ms: number): void {
    this.time += ms;
    const due = this.#timers.filter((t) => t.at <= this.time);
    this.#timers = this.#timers.filter((t) => t.at > this.time);
    for (const timer of due) timer.run();
  }
}

class FakeTransport implements Transport {
  sent: Frame[] = [];
  closedWith: number | null = null;
  send = (frame: Uint8Array<ArrayBuffer>) => void this.sent.push(decode(frame.buffer));
  close = (code: number) => void (this.closedWith = code);
  take(): Frame[] {
    return this.sent.splice(0);
  }
}

class Page implements Listener {
  shown = '';
  sessions: string[] = [];
  endings: Ending[] = [];
  skips: [string, number][] = [];
  clears = 0;
  warnings: [string, number][] = [];
  /** Parse callbacks not yet called. */
  unparsed: (() => void)[] = [];
  ready = (session: { id: string }) => void this.sessions.push(session.id);
  /** What must not be answered. */
  repeated = '';
  redraws = 0;
  sizes: string[] = [];
  output = (bytes: Uint8Array, parsed: () => void, repeated: boolean) => {
    const text = new TextDecoder().decode(bytes);
    this.shown += text;
    if (repeated) this.repeated += text;
    this.unparsed.push(parsed);
  };
  cleared = (cols: number, rows: number) => {
    this.clears += 1;
    this.sizes.push(`clear ${cols}x${rows}`);
  };
  redrawn = () => void (this.redraws += 1);
  resized = (cols: number, rows: number) => void this.sizes.push(`${cols}x${rows}`);
  closing = (reason: string, seconds: number) => void this.warnings.push([reason, seconds]);
  skipped = (direction: string, bytes: number) => void this.skips.push([direction, bytes]);
  peers = () => {};
  ended = (ending: Ending) => void this.endings.push(ending);
  parse(): void {
    for (const parsed of this.unparsed.splice(0)) parsed();
  }
}

const text = (value: string) => new TextEncoder().encode(value);
const message = (frame: Frame) => encode(frame).buffer;
const data = (offset: number, value: string) => message({ type: 'data', offset, bytes: text(value) });
const control = (value: { type: string; [key: string]: unknown }) => message({ type: 'control', control: value });
const ready = (input = 0) => control({ type: 'ready', session_id: 's-1', cols: 80, rows: 24, input });

let clock: FakeClock;
let page: Page;
let socket: FakeTransport;
let connection: Connection;

beforeEach(() => {
  clock = new FakeClock();
  page = new Page();
  socket = new FakeTransport();
  connection = new Connection(page, clock, { cols: 80, rows: 24 });
});

function open(): void {
  connection.attach(socket);
  connection.message(ready());
  socket.take();
}

describe('a connection', () => {
  it('greets first, and sends nothing else before it is ready', () => {
    connection.attach(socket);
    connection.type('ls\r');
    connection.resize(100, 30);
    expect(socket.take()).toEqual([{ type: 'control', control: { type: 'hello', have: 0 } }]);
    connection.message(ready());
    expect(page.sessions).toEqual(['s-1']);
    expect(socket.take()).toEqual([
      { type: 'resize', cols: 100, rows: 30 },
      { type: 'data', offset: 0, bytes: text('ls\r') },
    ]);
  });

  it('sends input as UTF-8, counted in bytes', () => {
    open();
    connection.type('中文');
    connection.type('🦀');
    expect(socket.take()).toEqual([
      { type: 'data', offset: 0, bytes: text('中文') },
      { type: 'data', offset: 6, bytes: text('🦀') },
    ]);
  });

  it('acknowledges what the terminal has parsed, 50 ms later, and not what it merely received', () => {
    open();
    connection.message(data(0, 'hello'));
    clock.pass(ACK_MS * 2);
    expect(socket.take()).toEqual([]);
    page.parse();
    connection.message(data(5, ' again'));
    clock.pass(ACK_MS);
    expect(socket.take()).toEqual([{ type: 'ack', offset: 5 }]);
    clock.pass(ACK_MS * 4);
    expect(socket.take()).toEqual([]);
  });

  it('acknowledges at once after 32 KiB', () => {
    open();
    connection.message(data(0, 'x'.repeat(ACK_BYTES)));
    page.parse();
    expect(socket.take()).toEqual([{ type: 'ack', offset: ACK_BYTES }]);
  });

  it('answers a ping, before ready too', () => {
    connection.attach(socket);
    socket.take();
    connection.message(control({ type: 'ping' }));
    expect(socket.take()).toEqual([{ type: 'control', control: { type: 'pong' } }]);
  });

  it('ignores control messages it does not know', () => {
    open();
    connection.message(control({ type: 'weather', sun: true }));
    expect(page.endings).toEqual([]);
  });

  it.each([
    ['a gap', () => data(3, 'x')],
    ['a text message', () => 'hi'],
    ['an unknown frame', () => new Uint8Array([99]).buffer],
    ['ready twice', () => ready()],
    ['an acknowledgement of what was never sent', () => message({ type: 'ack', offset: 1 })],
  ])('closes with 4400 on %s', (_name, bad) => {
    open();
    connection.message(bad());
    expect(socket.closedWith).toBe(4400);
    expect(page.endings).toHaveLength(1);
    connection.closed(4400, 'echo of our own close');
    expect(page.endings).toHaveLength(1);
  });

  it('tells how the shell ended', () => {
    open();
    connection.message(control({ type: 'exit', code: 3, signal: null }));
    connection.closed(1000, '');
    expect(page.endings[0]).toMatchObject({ title: 'The shell ended with exit code 3', lost: false });
  });

  it('shows the reason the bastion gives', () => {
    open();
    connection.closed(4403, 'Now outside the window 09:00–18:00.');
    expect(page.endings[0]).toMatchObject({ title: 'Ended by policy', detail: 'Now outside the window 09:00–18:00.' });
  });

  it('warns before a deadline', () => {
    open();
    connection.message(control({ type: 'closing', reason: 'idle', in_seconds: 60 }));
    expect(page.warnings).toEqual([['idle', 60]]);
  });

  it('counts a silent socket as lost after 35 seconds', () => {
    open();
    clock.pass(SILENCE_MS - 1);
    connection.message(control({ type: 'ping' }));
    clock.pass(SILENCE_MS - 1);
    expect(page.endings).toEqual([]);
    clock.pass(1);
    expect(page.endings[0]).toMatchObject({ lost: true });
    expect(socket.closedWith).not.toBeNull();
  });

  it('sends only sizes the protocol allows, and no size twice', () => {
    open();
    connection.resize(0, 5000);
    connection.resize(1, 1000);
    expect(socket.take()).toEqual([{ type: 'resize', cols: 1, rows: 1000 }]);
  });
});

describe('a connection taken up again', () => {
  it('says what it has, and repeats only the input the host lacks', () => {
    open();
    connection.message(data(0, 'abc'));
    connection.type('one ');
    connection.type('two');
    socket.take();
    connection.closed(1006, '');
    const next = new FakeTransport();
    connection.attach(next);
    expect(next.take()).toEqual([{ type: 'control', control: { type: 'hello', have: 3 } }]);
    connection.message(ready(4));
    expect(next.take()).toEqual([{ type: 'data', offset: 4, bytes: text('two') }]);
    connection.message(data(3, 'def'));
    expect(page.shown).toBe('abcdef');
  });

  it('says so when input was too old to deliver', () => {
    open();
    connection.type('rm');
    connection.closed(1006, '');
    clock.pass(11_000);
    connection.attach(new FakeTransport());
    connection.message(ready(0));
    expect(page.skips).toEqual([['input', 2]]);
  });

  it('clears once for a screen in parts, and counts from the offset it stands at, even backwards', () => {
    open();
    connection.message(data(0, 'x'.repeat(100)));
    connection.closed(1006, '');
    const next = new FakeTransport();
    connection.attach(next);
    connection.message(ready());
    next.take();
    connection.message(message({ type: 'screen', offset: 60, last: false, bytes: text('top') }));
    connection.message(message({ type: 'screen', offset: 60, last: true, bytes: text('bottom') }));
    connection.message(data(60, '!'));
    page.parse();
    clock.pass(ACK_MS);
    expect(page.clears).toBe(1);
    expect(next.take()).toEqual([{ type: 'ack', offset: 61 }]);
  });
});
