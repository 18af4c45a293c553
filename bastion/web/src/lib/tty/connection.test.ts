import { beforeEach, describe, expect, it } from 'vitest';
import { ACK_BYTES, ACK_MS, Connection, SILENCE_MS } from './connection';
import { FakeClock, FakeTransport, Page, control, data, message, ready, text } from './fakes';

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

describe('a connection that was lost', () => {
  function again(input = 0): FakeTransport {
    const next = new FakeTransport();
    connection.attach(next);
    connection.message(ready(input));
    next.take();
    return next;
  }

  it('keeps what is typed meanwhile, and sends it once', () => {
    open();
    connection.closed(1006, '');
    expect(connection.type('ls\r')).toBe(true);
    const next = new FakeTransport();
    connection.attach(next);
    next.take();
    connection.message(ready(0));
    expect(next.take()).toEqual([{ type: 'data', offset: 0, bytes: text('ls\r') }]);
    connection.message(message({ type: 'ack', offset: 3 }));
    connection.closed(1012, '');
    const third = new FakeTransport();
    connection.attach(third);
    third.take();
    connection.message(ready(3));
    expect(third.take()).toEqual([]);
  });

  it('sends what was typed just now, and says what was too old', () => {
    open();
    connection.closed(1006, '');
    connection.type('old');
    clock.pass(10_001);
    connection.type('new');
    const next = new FakeTransport();
    connection.attach(next);
    next.take();
    connection.message(ready(0));
    expect(next.take()).toEqual([{ type: 'data', offset: 0, bytes: text('new') }]);
    expect(page.skips).toEqual([['input', 3]]);
  });

  it('hears nothing more from the socket it lost', () => {
    open();
    clock.pass(SILENCE_MS);
    expect(page.endings).toMatchObject([{ lost: true }]);
    const next = again();
    connection.closed(1006, 'late', socket);
    connection.message(data(0, 'late'), socket);
    expect(connection.phase).toBe('open');
    expect(page.shown).toBe('');
    connection.message(data(0, 'now'), next);
    expect(page.shown).toBe('now');
  });

  it('notices after sleep, without waiting for a timer, that the socket has been silent', () => {
    open();
    connection.check();
    expect(page.endings).toEqual([]);
    clock.time += SILENCE_MS;
    connection.check();
    expect(page.endings).toMatchObject([{ lost: true }]);
  });

  it('is told of a socket that never opened, and of a ticket refused at the door, as of one more loss', () => {
    open();
    connection.closed(1006, '');
    connection.closed(1006, '', null);
    connection.attach(new FakeTransport());
    connection.closed(4403, 'Outside the window.');
    expect(page.endings).toMatchObject([{ lost: true }, { lost: true }, { lost: true, detail: 'Outside the window.' }]);
    expect(connection.phase).toBe('lost');
  });

  it('is over when the bastion says so after ready, and takes no more input', () => {
    open();
    connection.closed(4403, 'Disabled.');
    expect(page.endings).toMatchObject([{ lost: false }]);
    expect(connection.type('x')).toBe(false);
  });

  it('acknowledges, once back, what was parsed while away', () => {
    open();
    connection.message(data(0, 'hello'));
    connection.closed(1006, '');
    page.parse();
    const next = again();
    clock.pass(ACK_MS);
    expect(next.take()).toEqual([{ type: 'ack', offset: 5 }]);
  });

  it('draws a screen in the size it was made for, and goes on from where it stands, ahead of what was seen', () => {
    open();
    connection.message(data(0, 'abc'));
    connection.closed(1006, '');
    const next = new FakeTransport();
    connection.attach(next);
    connection.message(control({ type: 'ready', session_id: 's-1', cols: 120, rows: 40, input: 0 }));
    expect(next.take()).toContainEqual({ type: 'resize', cols: 80, rows: 24 });
    connection.message(message({ type: 'screen', offset: 5000, last: false, bytes: text('to') }));
    expect(page.redraws).toBe(0);
    connection.message(message({ type: 'screen', offset: 5000, last: true, bytes: text('p') }));
    connection.message(data(5000, '!'));
    expect([page.sizes, page.redraws, page.shown]).toEqual([['clear 120x40'], 1, 'abctop!']);
    page.parse();
    clock.pass(ACK_MS);
    expect(next.take()).toEqual([{ type: 'ack', offset: 5001 }]);
    // The host took the new size: a later screen is drawn for that.
    connection.message(message({ type: 'resized', offset: 5001, cols: 80, rows: 24 }));
    connection.message(message({ type: 'screen', offset: 9000, last: true, bytes: text('') }));
    expect(page.sizes.at(-1)).toBe('clear 80x24');
  });
});

describe('what repeats the past', () => {
  it('is nothing in a new session', () => {
    open();
    connection.message(data(0, 'live'));
    expect(page.repeated).toBe('');
  });

  it('is what was printed before this socket was ready, and every screen', () => {
    open();
    connection.closed(1006, '');
    connection.attach(new FakeTransport());
    connection.message(ready(0, 2));
    connection.message(data(0, 'a'));
    connection.message(data(1, 'b'));
    connection.message(data(2, 'c'));
    connection.message(message({ type: 'screen', offset: 4, last: true, bytes: text('S') }));
    connection.message(data(4, 'e'));
    expect(page.shown).toBe('abcSe');
    expect(page.repeated).toBe('abS');
  });

  it('is shown in the size it was printed for, then the terminal has its own again', () => {
    connection = new Connection(page, clock, { cols: 100, rows: 30 }, { resumed: true });
    connection.attach(socket);
    connection.message(ready(0, 2));
    connection.message(message({ type: 'resized', offset: 0, cols: 80, rows: 24 }));
    connection.message(data(0, 'a'));
    expect(page.redraws).toBe(0);
    connection.message(data(1, 'b'));
    expect(page.redraws).toBe(1);
    connection.message(message({ type: 'resized', offset: 2, cols: 100, rows: 30 }));
    expect(page.sizes).toEqual(['replay 80x24', '100x30']);
  });
});

describe('a watching connection', () => {
  it('sends hello, acknowledgements and pongs, and nothing else', () => {
    connection = new Connection(page, clock, { cols: 100, rows: 30 }, { mode: 'watch', resumed: true });
    connection.attach(socket);
    expect(connection.type('ls\r')).toBe(false);
    connection.resize(90, 20);
    connection.message(ready(7));
    connection.resize(91, 21);
    connection.type('ls\r');
    connection.message(message({ type: 'screen', offset: 9, last: true, bytes: text('screen') }));
    connection.message(data(9, 'more'));
    connection.message(message({ type: 'screen', offset: 400, last: true, bytes: text('ahead') }));
    connection.message(data(400, '!'));
    connection.message(control({ type: 'ping' }));
    page.parse();
    clock.pass(ACK_MS);
    expect(socket.take()).toEqual([
      { type: 'control', control: { type: 'hello', have: 0 } },
      { type: 'control', control: { type: 'pong' } },
      { type: 'ack', offset: 401 },
    ]);
    expect(page.clears).toBe(2);
  });

  it('follows the size of the one it watches', () => {
    connection = new Connection(page, clock, null, { mode: 'watch', resumed: true });
    connection.attach(socket);
    connection.message(ready());
    connection.message(message({ type: 'resized', offset: 0, cols: 132, rows: 43 }));
    expect(page.sizes).toEqual(['132x43']);
  });
});
