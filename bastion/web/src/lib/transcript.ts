/** The transcript of a recording: what was on the screen, line by line, read without freezing the page and searched. */
import { countUpTo } from './moment';

export interface Line {
  /** Seconds from the start: when it was last written. */
  t: number;
  line: string;
}

/** Lines read at most; of more, the bastion is asked. */
export const MOST_LINES = 250_000;
/** Characters read at most. */
const MOST_TEXT = 48 << 20;
/** How long the page may be kept from drawing, in milliseconds. */
const PATIENCE_MS = 12;

export interface Transcript {
  lines: Line[];
  /** Whether this is all of it. */
  whole: boolean;
}

/** Reads the JSON that the bastion sends, in which each line of the screen stands on one line. */
export async function readTranscript(body: ReadableStream<Uint8Array>): Promise<Transcript> {
  const reader = body.pipeThrough(new TextDecoderStream() as TransformStream<Uint8Array, string>).getReader();
  const lines: Line[] = [];
  let rest = '';
  let read = 0;
  let drawn = performance.now();
  for (;;) {
    const { done, value = '' } = await reader.read();
    read += value.length;
    const pieces = (rest + value).split('\n');
    rest = done ? '' : (pieces.pop() ?? '');
    for (const piece of pieces) {
      const line = parseLine(piece);
      if (line) lines.push(line);
    }
    if (done) return { lines, whole: true };
    if (lines.length >= MOST_LINES || read >= MOST_TEXT) {
      void reader.cancel().catch(() => undefined);
      return { lines: lines.slice(0, MOST_LINES), whole: false };
    }
    if (performance.now() - drawn > PATIENCE_MS) {
      await new Promise((resolve) => setTimeout(resolve));
      drawn = performance.now();
    }
  }
}

function parseLine(piece: string): Line | null {
  const json = piece.trim().replace(/^\[(?=\{)/, '').replace(/(?<=\})[\],]$/, '');
  return json.startsWith('{') ? (JSON.parse(json) as Line) : null;
}

const plain = (text: string): string => text.trim().toLowerCase();

/** The lines, by number, that hold `query`, whatever the case; none for a blank one. */
export function find(lines: Line[], query: string): number[] {
  const wanted = plain(query);
  return wanted ? lines.flatMap(({ line }, n) => (line.toLowerCase().includes(wanted) ? [n] : [])) : [];
}

export interface Part {
  text: string;
  hit: boolean;
}

/** Characters of a line shown before what was found in it. */
const BEFORE = 24;

/** A line in parts, what was found marked; of a long line no more of what comes before than tells where it is. */
export function parts(line: string, query: string): Part[] {
  const wanted = plain(query);
  const low = line.toLowerCase();
  // A few letters change their length with their case; then the line is shown as it is.
  if (!wanted || low.length !== line.length) return [{ text: line, hit: false }];
  const shown: Part[] = [];
  let at = 0;
  for (let hit = low.indexOf(wanted); hit >= 0; hit = low.indexOf(wanted, at)) {
    const before = line.slice(at, hit);
    shown.push({ text: at === 0 && hit > 2 * BEFORE ? `…${before.slice(-BEFORE)}` : before, hit: false });
    at = hit + wanted.length;
    shown.push({ text: line.slice(hit, at), hit: true });
  }
  return [...shown, { text: line.slice(at), hit: false }].filter(({ text }) => text !== '');
}

/** When each of some moments has passed, though a few stand out of order; for following what is played. */
export class Passed {
  readonly #latest: Float64Array;

  constructor(moments: { t: number }[]) {
    this.#latest = new Float64Array(moments.length);
    let latest = 0;
    moments.forEach(({ t }, n) => (this.#latest[n] = latest = Math.max(latest, t)));
  }

  /** The number of the last one that has passed at `now`; -1 for none. */
  at(now: number): number {
    return countUpTo(now, this.#latest.length, (n) => this.#latest[n]!) - 1;
  }
}
