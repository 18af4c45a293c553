/**
 * One terminal session as a browser sees it, without DOM and without a socket of its own: it is attached to a
 * transport, and, when that is lost, to the next, going on at the byte where it stood.
 */
import { type Ending, type Exit, ending } from './close';
import { type Control, type Frame, FrameError, decode, encode, validSize } from './frames';
import { InputQueue } from './input';

/** Parsed bytes after which an ACK is due at once. */
export const ACK_BYTES = 32 * 1024;
/** Longest an ACK waits, in milliseconds. */
export const ACK_MS = 50;
/** Silence after which a socket counts as dead, in milliseconds. */
export const SILENCE_MS = 35_000;

/** The sending half of a WebSocket. */
export interface Transport {
  send(frame: Uint8Array<ArrayBuffer>): void;
  close(code: number, reason: string): void;
}

export interface Clock {
  now(): number;
  /** Calls `run` once after `ms`; the answer cancels it. */
  after(ms: number, run: () => void): () => void;
}

/** What the page is told. */
export interface Listener {
  ready(session: { id: string; cols: number; rows: number }): void;
  /** Bytes for the terminal, which calls `parsed` when it has taken them in; `repeated` ones it must not answer. */
  output(bytes: Uint8Array, parsed: () => void, repeated: boolean): void;
  /** The terminal starts afresh, in this size: a redrawn screen follows as output. */
  cleared(cols: number, rows: number): void;
  /** What follows is repeated, and was printed for this size; `redrawn` comes when it has all been given. */
  replayed(cols: number, rows: number): void;
  /** All of the redrawn screen, or of what was repeated, has been given. */
  redrawn(): void;
  /** The host's terminal has this size from here on. */
  resized(cols: number, rows: number): void;
  /** A deadline is near. */
  closing(reason: string, seconds: number): void;
  /** Bytes of output that this page was not sent, or of input too old to deliver. */
  skipped(direction: 'output' | 'input', bytes: number): void;
  peers(count: number): void;
  ended(ending: Ending): void;
}

/** `lost`: without a transport, but the shell may live; what is typed is kept for the next. */
export type Phase = 'idle' | 'greeting' | 'open' | 'lost' | 'ended';

export type Mode = 'control' | 'watch';

export interface Options {
  /** A watcher sends nothing but what paces its output. */
  mode?: Mode;
  /** The session was there before this page: what comes first repeats the past. */
  resumed?: boolean;
}

const encoder = new TextEncoder();

export class Connection {
  phase: Phase = 'idle';
  readonly #listener: Listener;
  readonly #clock: Clock;
  readonly #watching: boolean;
  #transport: Transport | null = null;
  /** Of this page's terminal; null while it has none of its own. */
  #size: Size | null;
  /** Of the host's terminal. */
  #hostSize: Size = { cols: 80, rows: 24 };
  /** Whether the session has been attached to before, by this page or an earlier one. */
  #known: boolean;
  /** Output before this offset was printed before this socket came, and is repeated. */
  #repeatedUpTo = 0;
  #borrowing = false;
  #heard = 0;
  #input = new InputQueue();
  #received = 0;
  #parsed = 0;
  #acknowledged = 0;
  #redrawing = false;
  /** Counts redrawn screens: what the terminal still parses from before one no longer counts. */
  #screen = 0;
  #exit: Exit | null = null;
  #cancelAck: (() => void) | null = null;
  #cancelSilence: (() => void) | null = null;

  constructor(listener: Listener, clock: Clock, size: Size | null, options: Options = {}) {
    this.#listener = listener;
    this.#clock = clock;
    this.#size = size;
    this.#watching = options.mode === 'watch';
    this.#known = options.resumed ?? false;
  }

  /** An open transport: says hello with the output it has. Also how a lost session is taken up again. */
  attach(transport: Transport): void {
    this.#transport = transport;
    this.phase = 'greeting';
    this.#redrawing = false;
    this.#watchSilence();
    this.#send({ type: 'control', control: { type: 'hello', have: this.#received } });
  }

  /** A message from a transport; one from an earlier transport is too late. */
  message(data: ArrayBuffer | string, from = this.#transport): void {
    if (!this.#transport || from !== this.#transport) return;
    this.#watchSilence();
    if (typeof data === 'string') return this.#violated('a text message in a binary protocol');
    let frame: Frame;
    try {
      frame = decode(data);
    } catch (error) {
      if (error instanceof FrameError) return this.#violated(error.message);
      throw error;
    }
    this.#take(frame);
  }

  /** The transport is gone, by its own doing or the other side's; `from` is null for one that never opened. */
  closed(code: number, reason: string, from = this.#transport): void {
    if (this.phase === 'ended' || from !== this.#transport) return;
    const refused = from === null && code === 1006;
    const end = ending(code, refused ? 'The bastion cannot be reached, or it refused the socket.' : reason, this.#exit);
    // A ticket refused at the door says nothing of the session behind it.
    if (this.#known && this.phase === 'greeting' && (code === 4401 || code === 4403)) end.lost = true;
    this.#detach(end.lost ? 'lost' : 'ended');
    this.#listener.ended(end);
  }

  /** Takes a socket that has been silent too long for lost at once: after sleep no timer has fired yet. */
  check(): void {
    if (this.#transport && this.#clock.now() - this.#heard >= SILENCE_MS) this.#silent();
  }

  /** Keys and pastes, as text. False when the input queue is full and nothing was taken. */
  type(text: string): boolean {
    return this.input(encoder.encode(text));
  }

  /** Input as bytes (mouse reports may be no UTF-8). */
  input(bytes: Uint8Array): boolean {
    if (this.phase === 'ended' || this.#watching) return false;
    const taken = this.#input.push(bytes, this.#clock.now());
    this.#pump();
    return taken;
  }

  /** The terminal has a new size; sent at once when open, else as soon as it is. */
  resize(cols: number, rows: number): void {
    const size = { cols: clampSize(cols), rows: clampSize(rows) };
    if (size.cols === this.#size?.cols && size.rows === this.#size.rows) return;
    this.#size = size;
    if (this.phase === 'open' && !this.#watching) this.#send({ type: 'resize', ...size });
  }

  /** The user leaves the terminal. */
  close(): void {
    const transport = this.#transport;
    this.#detach('ended');
    transport?.close(1000, 'closed by the user');
  }

  #take(frame: Frame): void {
    if (frame.type === 'control') return this.#control(frame.control);
    if (this.phase !== 'open') return this.#violated(`${frame.type} before ready`);
    switch (frame.type) {
      case 'data':
        if (frame.offset !== this.#received) {
          return this.#violated(`output at ${frame.offset} does not continue ${this.#received}`);
        }
        this.#received += frame.bytes.length;
        this.#show(frame.bytes, this.#received, frame.offset < this.#repeatedUpTo);
        return this.#caughtUp();
      case 'screen':
        return this.#redraw(frame.offset, frame.last, frame.bytes);
      case 'ack':
        if (!this.#input.acknowledge(frame.offset)) return this.#violated('input acknowledged that was never sent');
        return this.#pump();
      case 'resized':
        this.#hostSize = { cols: frame.cols, rows: frame.rows };
        if (!this.#watching && this.#received < this.#repeatedUpTo) {
          // What follows was printed for this size.
          this.#borrowing = true;
          return this.#listener.replayed(frame.cols, frame.rows);
        }
        return this.#listener.resized(frame.cols, frame.rows);
      case 'resize':
        return this.#violated('a resize from the bastion');
    }
  }

  #control(control: Control): void {
    switch (control.type) {
      case 'ready':
        return this.#ready(control);
      case 'ping':
        return this.#send({ type: 'control', control: { type: 'pong' } });
      case 'exit':
        this.#exit = {
          code: typeof control.code === 'number' ? control.code : null,
          signal: typeof control.signal === 'string' ? control.signal : null,
        };
        return;
      case 'closing':
        return this.#listener.closing(String(control.reason ?? ''), Math.max(0, Number(control.in_seconds) || 0));
      case 'skipped':
        return this.#listener.skipped('output', Number(control.bytes) || 0);
      case 'peers':
        return this.#listener.peers(Number(control.count) || 0);
      default:
        // Unknown control messages are ignored: that is how the protocol grows.
        return;
    }
  }

  #ready(control: Control): void {
    const { session_id: id, cols, rows, input } = control;
    if (this.phase !== 'greeting') return this.#violated('ready twice');
    if (typeof id !== 'string' || !validSize(Number(cols)) || !validSize(Number(rows)) || !Number.isSafeInteger(input)) {
      return this.#violated('ready without session, size or input offset');
    }
    this.phase = 'open';
    this.#hostSize = { cols: Number(cols), rows: Number(rows) };
    this.#repeatedUpTo = this.#known ? Number(control.output) || 0 : 0;
    this.#known = true;
    const stale = this.#input.restart(Number(input), this.#clock.now());
    this.#listener.ready({ id, ...this.#hostSize });
    if (stale > 0) this.#listener.skipped('input', stale);
    const size = this.#size;
    if (size && !this.#watching && (size.cols !== cols || size.rows !== rows)) this.#send({ type: 'resize', ...size });
    this.#pump();
    this.#acknowledgeSoon();
    this.#caughtUp();
  }

  /** What was missing has come: the terminal has its own size again. */
  #caughtUp(): void {
    if (!this.#borrowing || this.#received < this.#repeatedUpTo) return;
    this.#borrowing = false;
    this.#listener.redrawn();
  }

  /** The stream goes on from a redrawn screen, which may stand before or after what this page has seen. */
  #redraw(offset: number, last: boolean, bytes: Uint8Array): void {
    if (!this.#redrawing) {
      this.#screen += 1;
      this.#listener.cleared(this.#hostSize.cols, this.#hostSize.rows);
    }
    this.#redrawing = !last;
    this.#received = this.#parsed = offset;
    this.#acknowledged = Math.min(this.#acknowledged, offset);
    this.#show(bytes, offset, true);
    if (!last) return;
    this.#borrowing = false;
    this.#listener.redrawn();
  }

  #show(bytes: Uint8Array, upTo: number, repeated: boolean): void {
    const screen = this.#screen;
    const parsed = () => {
      if (screen !== this.#screen) return;
      if (upTo > this.#parsed) this.#parsed = upTo;
      this.#acknowledgeSoon();
    };
    this.#listener.output(bytes, parsed, repeated);
  }

  #acknowledgeSoon(): void {
    if (this.phase !== 'open' || this.#parsed <= this.#acknowledged) return;
    if (this.#parsed - this.#acknowledged >= ACK_BYTES) return this.#acknowledge();
    this.#cancelAck ??= this.#clock.after(ACK_MS, () => this.#acknowledge());
  }

  #acknowledge(): void {
    this.#cancelAck?.();
    this.#cancelAck = null;
    if (this.phase !== 'open') return;
    this.#acknowledged = this.#parsed;
    this.#send({ type: 'ack', offset: this.#parsed });
  }

  #pump(): void {
    if (this.phase !== 'open') return;
    for (let piece = this.#input.next(); piece; piece = this.#input.next()) this.#send({ type: 'data', ...piece });
  }

  #watchSilence(): void {
    this.#heard = this.#clock.now();
    this.#cancelSilence?.();
    this.#cancelSilence = this.#clock.after(SILENCE_MS, () => this.#silent());
  }

  #silent(): void {
    const transport = this.#transport;
    this.closed(1006, 'Nothing was heard from the bastion for 35 seconds.');
    transport?.close(4408, 'silence');
  }

  #violated(detail: string): void {
    const transport = this.#transport;
    this.closed(4400, `The bastion sent ${detail}.`);
    transport?.close(4400, 'protocol error');
  }

  #send(frame: Frame): void {
    this.#transport?.send(encode(frame));
  }

  #detach(phase: 'lost' | 'ended'): void {
    this.phase = phase;
    this.#transport = null;
    // What was typed before the end is for nobody: another page may have typed since.
    if (phase === 'ended') this.#input = new InputQueue();
    this.#cancelAck?.();
    this.#cancelSilence?.();
    this.#cancelAck = this.#cancelSilence = null;
  }
}

interface Size {
  cols: number;
  rows: number;
}

/** A terminal dimension as the protocol allows it. */
export function clampSize(n: number): number {
  return Math.min(1000, Math.max(1, Math.trunc(n) || 1));
}
