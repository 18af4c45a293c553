/** A plain cast walked from its first byte to its last, and held against what index and facts say of it. */
import { type Bytes, type Pieces, hex, join, sha256 } from './bytes';
import { type Chunk, type Facts, type Index, canonical } from './shapes';

/** No recorder writes a longer chunk. */
const MAX_CHUNK = 8 << 20;
/** The longest that zstd may make of one. */
const MAX_STORED = MAX_CHUNK + (MAX_CHUNK >> 8);
/** Seconds; times are whole µs, and what reading a decimal may round is far less. */
const NEARLY = 4e-7;
const LINE_END = 10;

/** The hash chain over a recording's chunks: each link covers all before it, the first the facts. */
export class Chain {
  #head: Bytes;

  private constructor(head: Bytes) {
    this.#head = head;
  }

  static async of(facts: Facts): Promise<Chain> {
    return new Chain(await sha256(new TextEncoder().encode(canonical(facts))));
  }

  async push(chunk: Bytes): Promise<void> {
    this.#head = await sha256(join([this.#head, chunk]));
  }

  get head(): string {
    return hex(this.#head);
  }
}

/** Where, and why, a walk ended. */
export type Stop =
  | { why: 'end' | 'surplus' | 'empty' | 'totals' }
  /** This chunk is cut, or no beginning of it; the index's entry of it contradicts what is around it. */
  | { why: 'cut' | 'broken' | 'entry'; chunk: number };

export interface Walk {
  /** The chain's last value over the chunks as they are; none without facts. */
  head: string | null;
  chunks: number;
  /** Chunks, from the first, that are what the index says. */
  matched: number;
  /** Bytes read. */
  plain: number;
  /** The first chunk whose hash, or whose times, are not what the index says. */
  differs: number | null;
  mistimed: number | null;
  stop: Stop;
}

/** Told of every chunk as it is read. */
export type Witness = (plain: Bytes, n: number) => void | Promise<void>;

/** Walks as `index` cuts the cast; of what is longer than `sealed` bytes no more than a chunk. */
export async function byIndex(cast: Pieces, index: Index, root: Facts, sealed: number | null, witness: Witness): Promise<Walk> {
  const chain = await Chain.of(root);
  const walk: Walk = { head: chain.head, chunks: 0, matched: 0, plain: 0, differs: null, mistimed: null, stop: { why: 'end' } };
  const stopped = (stop: Stop): Walk => ({ ...walk, head: chain.head, stop });
  if (await cast.isOver()) return stopped({ why: 'empty' });
  let storedAt = 0;
  for (const [n, chunk] of index.chunks.entries()) {
    const begins = chunk.n === n && chunk.at === storedAt && chunk.plain_at === walk.plain;
    if (!begins || !isPlausible(chunk)) {
      // An entry that fits the one after it was misplaced by the one before it.
      const before = n > 0 && chunk.n === n && !begins && ends(index, chunk);
      return stopped({ why: 'entry', chunk: before ? n - 1 : n });
    }
    const plain = await cast.take(chunk.plain_len);
    const cut = plain.length < chunk.plain_len;
    const digest = await sha256(plain);
    const good = !cut && hex(digest) === chunk.sha256;
    // Cut by a false measure, a chunk says nothing.
    if (!good && !ends(index, chunk)) return stopped({ why: 'entry', chunk: n });
    if (cut) return stopped({ why: isBeginning(plain, n === 0, chunk) ? 'cut' : 'broken', chunk: n });
    if (!good) walk.differs ??= n;
    else if (!timesAre(plain, n === 0, chunk)) walk.mistimed ??= n;
    await chain.push(digest);
    walk.chunks += 1;
    walk.plain += plain.length;
    if (walk.differs === null && walk.mistimed === null) walk.matched = walk.chunks;
    await witness(plain, n);
    storedAt += chunk.len;
    // After a chunk that differs only the seal still has something to say, of the whole.
    if (sealed === null ? walk.differs !== null : walk.plain > sealed) break;
  }
  if (!(await cast.isOver())) return stopped({ why: 'surplus' });
  return stopped({ why: storedAt === index.stored_len && walk.plain === index.plain_len ? 'end' : 'totals' });
}

/** Only counts, and no further than a byte beyond `sealed`: nothing says where a plain cast's chunks begin. */
export async function uncut(cast: Pieces, sealed: number): Promise<Walk> {
  const walk: Walk = { head: null, chunks: 0, matched: 0, plain: 0, differs: null, mistimed: null, stop: { why: 'end' } };
  if (await cast.isOver()) return { ...walk, stop: { why: 'empty' } };
  while (walk.plain <= sealed && !(await cast.isOver())) {
    walk.plain += (await cast.take(Math.min(sealed + 1 - walk.plain, 1 << 16))).length;
  }
  return { ...walk, stop: { why: walk.plain > sealed ? 'surplus' : 'end' } };
}

/** Whether an entry is one that a recorder could have written, so that nobody allocates by its word. */
function isPlausible(chunk: Chunk): boolean {
  return chunk.plain_len >= 1 && chunk.plain_len <= MAX_CHUNK && chunk.len >= 1 && chunk.len <= MAX_STORED;
}

/** Whether an entry ends where the next one begins, or the last one the whole. */
function ends(index: Index, chunk: Chunk): boolean {
  const next = index.chunks[chunk.n + 1];
  const [at, plainAt] = next ? [next.at, next.plain_at] : [index.stored_len, index.plain_len];
  return chunk.at + chunk.len === at && chunk.plain_at + chunk.plain_len === plainAt;
}

/** Where the lines of a chunk's events begin and end. */
export function* spans(plain: Bytes, hasHeader: boolean): Generator<[at: number, end: number]> {
  let skip = hasHeader;
  for (let at = 0; at < plain.length; ) {
    const found = plain.indexOf(LINE_END, at);
    const end = found < 0 ? plain.length : found;
    if (end > at) {
      if (!skip) yield [at, end];
      skip = false;
    }
    at = end + 1;
  }
}

function* events(plain: Bytes, hasHeader: boolean): Generator<Bytes> {
  for (const [at, end] of spans(plain, hasHeader)) yield plain.subarray(at, end);
}

function lastEvent(plain: Bytes, hasHeader: boolean): Bytes | null {
  let end = plain.length;
  while (end > 0 && plain[end - 1] === LINE_END) end -= 1;
  const start = end > 0 ? plain.lastIndexOf(LINE_END, end - 1) + 1 : 0;
  const isHeader = hasHeader && !plain.subarray(0, start).some((byte) => byte !== LINE_END);
  return end > start && !isHeader ? plain.subarray(start, end) : null;
}

/** Whether the entry's times are those of the chunk's first and last event. */
function timesAre(plain: Bytes, hasHeader: boolean, chunk: Chunk): boolean {
  const first = events(plain, hasHeader).next().value;
  const last = lastEvent(plain, hasHeader);
  const same = (line: Bytes | null | undefined, said: number) => !!line && Math.abs((timeOf(line) ?? Number.NaN) - said) < NEARLY;
  return same(first, chunk.first) && same(last, chunk.last);
}

/** Whether the whole lines in `plain` can be the first of the chunk's: what is missing in the middle is no missing end. */
function isBeginning(plain: Bytes, hasHeader: boolean, chunk: Chunk): boolean {
  if (plain.length > 0 && plain[0] !== (hasHeader ? 0x7b : 0x5b)) return false;
  const whole = plain.subarray(0, plain.lastIndexOf(LINE_END) + 1);
  let isFirst = true;
  for (const line of events(whole, hasHeader)) {
    const time = timeOf(line);
    if (time === null || time <= chunk.first - NEARLY || time >= chunk.last + NEARLY) return false;
    if (isFirst && Math.abs(time - chunk.first) >= NEARLY) return false;
    isFirst = false;
  }
  return true;
}

const LONGEST_TIME = 32;

/** The time of an event's line. */
export function timeOf(line: Bytes): number | null {
  if (line[0] !== 0x5b) return null;
  const comma = line.subarray(0, LONGEST_TIME).indexOf(0x2c);
  const text = comma > 1 ? String.fromCharCode(...line.subarray(1, comma)) : '';
  return /^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$/.test(text) ? Number(text) : null;
}
