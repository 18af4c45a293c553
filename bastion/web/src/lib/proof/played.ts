/**
 * Whether the pieces a player was given are those of the cast that was verified.
 *
 * A piece's events are the cast's own lines, byte for byte; but for markers, which are labels, and to which the server
 * adds one for each command. The picture that a piece begins with is drawn by the server from the same lines.
 */
import { type Bytes, hex, join, sha256 } from './bytes';
import { spans, timeOf } from './walk';

const LINE_END = new Uint8Array([0x0a]);
const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const OPEN = 0x5b;
const CLOSE = 0x5d;
const MARKER = 'm'.charCodeAt(0);

export class Played {
  readonly #starts: number[];
  /** Hashes by piece: of what the cast holds, and of what the player was given. */
  readonly #cast = new Map<number, string>();
  readonly #given = new Map<number, string>();
  #piece = 0;
  /** The cast's lines in the piece at hand, as long runs as there are. */
  #runs: Bytes[] = [];
  /** Told when there is more to compare. */
  onmore: () => void = () => {};

  /** `starts`: when each piece begins, in seconds, as the player was told. */
  constructor(starts: number[]) {
    this.#starts = starts;
  }

  /** Forgets the cast, not what was given: it is about to be taken from its beginning. */
  restart(): void {
    this.#cast.clear();
    this.#piece = 0;
    this.#runs = [];
  }

  /** Takes the cast, chunk by chunk. */
  async cast(plain: Bytes, hasHeader: boolean): Promise<void> {
    let [from, to] = [0, 0];
    const keep = (next: number) => {
      if (to > from) this.#runs.push(plain.subarray(from, to));
      from = to = next;
    };
    for (const [at, end] of spans(plain, hasHeader)) {
      const line = plain.subarray(at, end);
      const time = timeOf(line) ?? 0;
      if (at !== to) keep(at);
      while (time >= (this.#starts[this.#piece + 1] ?? Infinity)) {
        keep(at);
        await this.#close();
      }
      if (codeOf(line) === MARKER) keep(end + 1);
      else to = end + 1;
    }
    keep(0);
  }

  /** The cast is over. */
  async end(): Promise<void> {
    await this.#close();
  }

  /** Takes a piece as the player got it. */
  async given(n: number, text: string): Promise<void> {
    this.#given.set(n, await digest(linesOf(text).flatMap((line) => [line, LINE_END])));
    this.onmore();
  }

  /** How many pieces have been compared, and those that are not the cast's. */
  get compared(): { good: number; strange: number[] } {
    const both = [...this.#given].filter(([n]) => this.#cast.has(n));
    const strange = both.filter(([n, hash]) => this.#cast.get(n) !== hash).map(([n]) => n);
    return { good: both.length - strange.length, strange };
  }

  async #close(): Promise<void> {
    const runs = this.#runs;
    this.#runs = [];
    this.#cast.set(this.#piece, await digest(runs));
    this.#piece += 1;
  }
}

const digest = async (parts: Bytes[]): Promise<string> => hex(await sha256(join(parts)));

/** The code of an event's line, `[time,"code",…]`. */
function codeOf(line: Bytes): number | undefined {
  const quote = line.indexOf(QUOTE);
  return quote < 0 ? undefined : line[quote + 1];
}

/** The events of a piece, `{"snapshot":…,"events":[[…],[…]]}`, as they are written; markers left out. */
export function linesOf(piece: string): Bytes[] {
  const bytes = new TextEncoder().encode(piece);
  const lines: Bytes[] = [];
  let depth = 0;
  let inText = false;
  let start = -1;
  for (let at = 0; at < bytes.length; at += 1) {
    const byte = bytes[at];
    if (inText) {
      if (byte === BACKSLASH) at += 1;
      else if (byte === QUOTE) inText = false;
    } else if (byte === QUOTE) {
      inText = true;
    } else if (byte === OPEN) {
      depth += 1;
      if (depth === 2) start = at;
    } else if (byte === CLOSE) {
      if (depth === 2) lines.push(bytes.subarray(start, at + 1));
      depth -= 1;
    }
  }
  return lines.filter((line) => codeOf(line) !== MARKER);
}
