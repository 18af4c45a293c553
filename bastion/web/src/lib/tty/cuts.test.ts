import { describe, expect, it } from 'vitest';
import { ACK_MS, Connection } from './connection';
import { FakeClock, FakeTransport, Page, text } from './fakes';
import { type Frame, encode } from './frames';

/** Random numbers from 0 up to, but not, 1, the same for the same seed. */
function dice(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}

/** The bastion's side of one session: a stream with its last bytes kept, the input it took, a socket that may be cut. */
class Bastion {
  static readonly WINDOW = 48;
  output = '';
  input = '';
  screens: number[] = [];
  #socket: FakeTransport | null = null;
  #greeted = false;
  #sent = 0;
  #acked = 0;
  readonly #to: Connection;

  /** `kept`: how many of the last bytes of output it can repeat. */
  constructor(
    connection: Connection,
    readonly kept: number,
  ) {
    this.#to = connection;
  }

  dial(): void {
    this.#socket = new FakeTransport();
    this.#greeted = false;
    this.#to.attach(this.#socket);
  }

  cut(): void {
    // What the browser sent and the bastion has not read is lost, and so is what it wrote and nobody read.
    this.#socket = null;
    this.#to.closed(1006, '');
  }

  get connected(): boolean {
    return this.#socket !== null;
  }

  /** Reads some of what the browser sent. */
  read(most: number): void {
    for (const frame of this.#socket?.sent.splice(0, most) ?? []) this.#take(frame);
  }

  /** Sends what the window allows, in pieces of at most `piece`. */
  write(piece: number): void {
    if (!this.#greeted) return;
    const end = Math.min(this.output.length, this.#sent + piece, this.#acked + Bastion.WINDOW);
    if (end <= this.#sent) return;
    this.#say({ type: 'data', offset: this.#sent, bytes: text(this.output.slice(this.#sent, end)) });
    this.#sent = end;
  }

  #take(frame: Frame): void {
    if (frame.type === 'ack') this.#acked = Math.max(this.#acked, frame.offset);
    else if (frame.type === 'data') {
      expect(frame.offset).toBe(this.input.length);
      this.input += new TextDecoder().decode(frame.bytes);
      this.#say({ type: 'ack', offset: this.input.length });
    } else if (frame.type === 'control' && frame.control.type === 'hello') this.#welcome(Number(frame.control.have));
  }

  #welcome(have: number): void {
    this.#greeted = true;
    this.#say({ type: 'control', control: { type: 'ready', session_id: 's', cols: 80, rows: 24, input: this.input.length } });
    this.#sent = this.#acked = have;
    if (this.output.length - have <= this.kept) return;
    const at = this.output.length;
    this.screens.push(at);
    this.#say({ type: 'screen', offset: at, last: false, bytes: text('[') });
    this.#say({ type: 'screen', offset: at, last: true, bytes: text(']') });
    this.#sent = this.#acked = at;
  }

  #say(frame: Frame): void {
    this.#to.message(encode(frame).buffer);
  }
}

/** The page as the user sees it: a screen replaces what was shown. */
class Shown extends Page {
  override cleared = () => void (this.shown = '');
}

describe.each(Array.from({ length: 60 }, (_, seed) => seed + 1))('cuts at random (%i)', (seed) => {
  it('show every byte once, or a screen and what follows it; and deliver every key once', () => {
    const random = dice(seed);
    const clock = new FakeClock();
    const page = new Shown();
    const connection = new Connection(page, clock, { cols: 80, rows: 24 });
    const bastion = new Bastion(connection, seed % 2 ? 64 : 600);
    let typed = '';
    bastion.dial();
    for (let step = 0; step < 400; step += 1) {
      const what = random();
      if (what < 0.3) bastion.output += String.fromCharCode(97 + (step % 26)).repeat(1 + Math.floor(random() * 20));
      else if (what < 0.5) bastion.write(1 + Math.floor(random() * 30));
      else if (what < 0.65) bastion.read(1 + Math.floor(random() * 3));
      else if (what < 0.75) page.unparsed.splice(0, 1 + Math.floor(random() * 3)).forEach((parsed) => parsed());
      else if (what < 0.85 && connection.type(String(step))) typed += String(step);
      else if (what < 0.92) clock.pass(ACK_MS / 2);
      else if (bastion.connected) bastion.cut();
      else bastion.dial();
    }
    if (!bastion.connected) bastion.dial();
    for (let round = 0; round < 2000; round += 1) {
      bastion.read(10);
      bastion.write(30);
      page.parse();
      clock.pass(ACK_MS);
    }
    const drawn = /^\[\](.*)$/s.exec(page.shown);
    if (drawn) expect(bastion.output.slice(bastion.screens.at(-1))).toBe(drawn[1]);
    else expect(page.shown).toBe(bastion.output);
    expect(bastion.input).toBe(typed);
    expect(page.skips).toEqual([]);
    expect(page.endings.every(({ lost }) => lost)).toBe(true);
  });
});
