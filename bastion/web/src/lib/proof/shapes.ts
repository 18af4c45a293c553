/** Index and claims as they are written beside a cast, read strictly: whatever is not of this shape is refused. */

/** What a recording is about; the root of its hash chain. */
export interface Facts {
  asset: string;
  cols: number;
  rows: number;
  session: string;
  started: string;
  user: string;
}

/** One chunk. Times are seconds, hashes hex. */
export interface Chunk {
  n: number;
  first: number;
  last: number;
  at: number;
  len: number;
  plain_at: number;
  plain_len: number;
  sha256: string;
  chain: string;
}

export interface Index {
  version: number;
  session: string;
  compression: string;
  facts: Facts;
  chunks: Chunk[];
  plain_len: number;
  stored_len: number;
  output_bytes: number;
  output_sha256: string;
  lost_bytes: number;
}

/** What a seal says. */
export interface Claims {
  iss: string;
  iat: number;
  sub: string;
  facts: Facts;
  ended: string;
  reason: string;
  chunks: number;
  plain_len: number;
  head: string;
  output_bytes: number;
  output_sha256: string;
  recovered: boolean;
  lost_bytes: number;
  input: boolean;
}

/** Something is not of the shape it should be; the reason. */
export class Misshapen extends Error {}

type Kind = 'text' | 'count' | 'small' | 'whole' | 'number' | 'flag';
const KINDS: Record<Kind, (value: unknown) => boolean> = {
  text: (value) => typeof value === 'string',
  count: (value) => Number.isSafeInteger(value) && (value as number) >= 0,
  small: (value) => Number.isInteger(value) && (value as number) >= 0 && (value as number) <= 0xffff,
  whole: (value) => Number.isSafeInteger(value),
  number: (value) => typeof value === 'number',
  flag: (value) => typeof value === 'boolean',
};

const FACTS = { asset: 'text', cols: 'small', rows: 'small', session: 'text', started: 'text', user: 'text' } as const;
const CHUNK = { n: 'count', first: 'number', last: 'number', at: 'count', len: 'count', plain_at: 'count', plain_len: 'count', sha256: 'text', chain: 'text' } as const;
const TOTALS = { plain_len: 'count', output_bytes: 'count', output_sha256: 'text', lost_bytes: 'count' } as const;
const INDEX = { version: 'small', session: 'text', compression: 'text', stored_len: 'count', ...TOTALS } as const;
const CLAIMS = { iss: 'text', iat: 'whole', sub: 'text', ended: 'text', reason: 'text', chunks: 'count', head: 'text', recovered: 'flag', input: 'flag', ...TOTALS } as const;

function object(value: unknown, what: string): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw new Misshapen(`${what} is no object`);
  return value as Record<string, unknown>;
}

function fields(value: unknown, shape: Record<string, Kind>, what: string): Record<string, unknown> {
  const given = object(value, what);
  return Object.fromEntries(
    Object.entries(shape).map(([name, kind]) => {
      if (!Object.hasOwn(given, name)) throw new Misshapen(`${what} has no ${name}`);
      if (!KINDS[kind](given[name])) throw new Misshapen(`${name} of ${what} is not what it should be`);
      return [name, given[name]];
    }),
  );
}

const factsOf = (value: unknown) => fields(value, FACTS, 'facts') as unknown as Facts;

/** @throws {Misshapen} */
export function readIndex(text: string): Index {
  const given = object(parse(text), 'it');
  const index = fields(given, INDEX, 'it');
  if (!Array.isArray(given.chunks)) throw new Misshapen('its chunks are no list');
  const chunks = given.chunks.map((chunk: unknown, n) => fields(chunk, CHUNK, `chunk ${n}`));
  if (index.compression !== 'zstd' && index.compression !== 'none') throw new Misshapen('its compression is not known');
  if (index.version !== 1) throw new Misshapen(`it has version ${String(index.version)}, this page reads version 1`);
  const facts = factsOf(given.facts);
  if (index.session !== facts.session) throw new Misshapen('it names two sessions');
  return { ...index, facts, chunks } as unknown as Index;
}

/** @throws {Misshapen} */
export function readClaims(value: unknown): Claims {
  const given = object(value, 'the seal');
  const claims = { ...fields(given, CLAIMS, 'the seal'), facts: factsOf(given.facts) } as unknown as Claims;
  if (claims.sub !== claims.facts.session) throw new Misshapen('it names two sessions');
  return claims;
}

/** @throws {Misshapen} */
export function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new Misshapen('it is no JSON');
  }
}

/** In JCS form (RFC 8785): names in order, numbers and strings as JavaScript writes them. */
export function canonical(facts: Facts): string {
  const { asset, cols, rows, session, started, user } = facts;
  return JSON.stringify({ asset, cols, rows, session, started, user });
}
