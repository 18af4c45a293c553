/** What the tests put in a connection's surroundings: time, a socket, a page. */
import type { Ending } from './close';
import type { Clock, Listener, Transport } from './connection';
import { type Frame, decode, encode } from './frames';

export class FakeClock implements Clock {
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
    const end = this.time + ms;
    for (;;) {
      const [next] = this.#timers.filter((t) => t.at <= end).sort((x, y) => x.at - y.at);
      if (!next) break;
      this.#timers = this.#timers.filter((t) => t !== next);
      this.time = Math.max(this.time, next.at);
      next.run();
    }
    this.time = end;
  }
}

export class FakeTransport implements Transport {
  sent: Frame[] = [];
  closedWith: number | null = null;
  send = (frame: Uint8Array<ArrayBuffer>) => void this.sent.push(decode(frame.buffer));
  close = (code: number) => void (this.closedWith = code);
  take(): Frame[] {
    return this.sent.splice(0);
  }
}

export class Page implements Listener {
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
  replayed = (cols: number, rows: number) => void this.sizes.push(`replay ${cols}x${rows}`);
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

export const text = (value: string) => new TextEncoder().encode(value);
export const message = (frame: Frame) => encode(frame).buffer;
export const data = (offset: number, value: string) => message({ type: 'data', offset, bytes: text(value) });
export const control = (value: { type: string; [key: string]: unknown }) => message({ type: 'control', control: value });
export const ready = (input = 0, output = 0) => control({ type: 'ready', session_id: 's-1', cols: 80, rows: 24, input, output });
