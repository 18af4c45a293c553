import { readFileSync } from 'node:fs';
import { beforeAll, describe, expect, test } from 'vitest';
import { type Bytes, join } from './bytes';
import { CODES, type Finding, firstBad, sentence, standingOf } from './findings';
import { Played } from './played';
import { type Sample, castOf, makeSample, newKey, sign } from './sample';
import { type Index, canonical } from './shapes';
import { type Verdict, verify } from './verify';

let sample: Sample;
beforeAll(async () => {
  sample = await makeSample();
});

interface Changes {
  cast?: Bytes;
  index?: Partial<Index> | string | null;
  seal?: string | null;
  keys?: Sample['keys'];
  session?: string | null;
}

/** Verifies the sample with something changed; the cast comes in pieces that are not its chunks. */
function judge(changes: Changes = {}): Promise<Verdict> {
  const cast = changes.cast ?? castOf(sample);
  const index = typeof changes.index === 'string' || changes.index === null ? changes.index : JSON.stringify({ ...sample.index, ...changes.index });
  const beside = { index, seal: changes.seal === undefined ? sample.seal : changes.seal, session: changes.session === undefined ? sample.session : changes.session };
  return verify(stream(cast), beside, changes.keys ?? sample.keys);
}

function stream(bytes: Bytes): ReadableStream<Uint8Array> {
  let at = 0;
  return new ReadableStream({
    pull(controller) {
      if (at >= bytes.length) return controller.close();
      controller.enqueue(bytes.slice(at, at + 37));
      at += 37;
    },
  });
}

const codes = (verdict: Verdict) => verdict.findings.map((finding) => finding.code);
const flipped = (bytes: Bytes, at: number): Bytes => bytes.map((byte, i) => (i === at ? byte ^ 1 : byte)) as Bytes;

describe('a recording as it was written', () => {
  test('is authentic and whole, from a stream and from memory', async () => {
    const verdict = await judge();
    expect(verdict).toMatchObject({ standing: 'whole', findings: [], chunks: 4, matched: 4, proven: true });
    expect(verdict.seal?.kid).toBe('rec-one');
    const { index, seal, session, keys } = sample;
    expect((await verify(castOf(sample), { index: JSON.stringify(index), seal, session }, keys)).standing).toBe('whole');
  });

  test('says so when it was sealed after a crash', async () => {
    const recovered = await makeSample({ claims: { recovered: true, lost_bytes: 0 } });
    const { index, seal, session, keys } = recovered;
    const verdict = await verify(castOf(recovered), { index: JSON.stringify(index), seal: `${seal}\n`, session }, keys);
    expect(verdict).toMatchObject({ standing: 'whole', seal: { claims: { recovered: true } } });
  });

  test('has facts in canonical form', () => {
    expect(canonical({ user: 'ü\u2028"1', session: 's', started: 't', rows: 24, cols: 80, asset: 'a' })).toBe(
      '{"asset":"a","cols":80,"rows":24,"session":"s","started":"t","user":"ü\u2028\\"1"}',
    );
  });
});

describe('an altered cast', () => {
  test.each([0, 1, 2, 3])('with a byte flipped in chunk %i names it', async (n) => {
    const at = sample.index.chunks[n]!.plain_at + 70;
    const verdict = await judge({ cast: flipped(castOf(sample), at) });
    expect(verdict.standing).toBe('altered');
    expect(verdict.findings[0]).toMatchObject({ code: 'chunk', chunk: n, span: { plain_at: sample.index.chunks[n]!.plain_at } });
    expect(verdict.matched).toBe(n);
    expect(verdict.proven).toBe(false);
    expect(firstBad(verdict.findings)).toBe(n);
  });

  test('with a chunk removed names the place', async () => {
    const [a, , c, d] = sample.chunks as [Bytes, Bytes, Bytes, Bytes];
    expect(await judge({ cast: join([a, c, d]) })).toMatchObject({ standing: 'altered', findings: [{ code: 'chunk', chunk: 1 }] });
  });

  test('with the last chunk but one removed is not taken for one that is cut', async () => {
    const verdict = await judge({ cast: join([sample.chunks[0]!, sample.chunks[2]!]) });
    expect(verdict.standing).toBe('altered');
    expect(firstBad(verdict.findings)).toBe(1);
  });

  test('with two chunks swapped names the first', async () => {
    const [a, b, c, d] = sample.chunks as [Bytes, Bytes, Bytes, Bytes];
    expect(await judge({ cast: join([a, c, b, d]) })).toMatchObject({ standing: 'altered', findings: [{ code: 'chunk', chunk: 1 }] });
  });

  test('that goes on after its end is found out', async () => {
    const verdict = await judge({ cast: join([castOf(sample), sample.chunks[3]!]) });
    expect(verdict).toMatchObject({ standing: 'altered', findings: [{ code: 'surplus', chunk: 4 }] });
  });
});

describe('an incomplete cast', () => {
  test('cut within a chunk names the first that is not all there', async () => {
    const cast = castOf(sample);
    const verdict = await judge({ cast: cast.slice(0, cast.length - 5) });
    expect(verdict).toMatchObject({ standing: 'incomplete', matched: 3, findings: [{ code: 'cut', chunk: 3, of: 4 }] });
  });

  test('cut between chunks too', async () => {
    expect(await judge({ cast: join(sample.chunks.slice(0, 2)) })).toMatchObject({ standing: 'incomplete', findings: [{ code: 'cut', chunk: 2, of: 4 }] });
  });

  test('of nothing is empty', async () => {
    expect(codes(await judge({ cast: new Uint8Array() }))).toEqual(['empty']);
  });
});

describe('seals', () => {
  test('by a key that nobody knows prove nothing', async () => {
    const verdict = await judge({ keys: [{ ...sample.keys[0]!, kid: 'rec-other' }] });
    expect(verdict).toMatchObject({ standing: 'unknown_key', findings: [{ code: 'unknown_key', kid: 'rec-one' }], proven: false });
  });

  test('of another recording do not fit', async () => {
    const key = await newKey('shared');
    const [mine, foreign] = await Promise.all([makeSample({ key }), makeSample({ key, session: 'another', lines: 7 })]);
    const verdict = await verify(castOf(mine), { index: JSON.stringify(mine.index), seal: foreign.seal, session: mine.session }, [key.jwk]);
    expect(verdict.standing).toBe('altered');
    expect(codes(verdict)).toEqual(expect.arrayContaining(['disagree', 'other_session']));
    expect(verdict.findings.find((finding) => finding.code === 'disagree')).toMatchObject({ fields: ['facts', 'plain_len', 'head'] });
  });

  test('by another key under the same name do not hold', async () => {
    const forger = await newKey('one');
    const verdict = await judge({ keys: [forger.jwk] });
    expect(verdict).toMatchObject({ standing: 'altered', findings: [{ code: 'seal', reason: 'its signature does not match' }] });
  });

  test.each([
    ['another type', { typ: 'castellan-browser+jwt' }],
    ['no algorithm', { alg: 'none' }],
    ['its own key', { jwk: {} }],
    ['a ticket key', { kid: 'tk-one' }],
  ])('with %s are refused', async (_, header) => {
    const key = await newKey('one');
    const seal = await sign(key, {}, header);
    expect(codes(await judge({ seal, keys: [key.jwk] }))).toEqual(['seal']);
  });

  test('that are missing leave it unproven', async () => {
    expect(await judge({ seal: null })).toMatchObject({ standing: 'incomplete', findings: [{ code: 'no_seal' }], matched: 4, proven: false });
    expect(codes(await judge({ seal: null, index: null }))).toEqual(['no_seal', 'no_index']);
  });

  test.each(['', 'a.b', 'a.b.c.d', '!.!.!'])('that are none (%j) do not hold', async (seal) => {
    expect(codes(await judge({ seal }))).toEqual([seal ? 'seal' : 'no_seal']);
  });
});

describe('an index', () => {
  const entry = (n: number, change: object) => ({ chunks: sample.index.chunks.map((chunk) => (chunk.n === n ? { ...chunk, ...change } : chunk)) });

  test('with another hash is what is wrong, not the cast', async () => {
    const verdict = await judge({ index: entry(2, { sha256: '00'.repeat(32) }) });
    expect(verdict).toMatchObject({ standing: 'altered', proven: true, findings: [{ code: 'index_entry', chunk: 2 }] });
  });

  test('with other times is', async () => {
    expect(await judge({ index: entry(1, { last: 99 }) })).toMatchObject({ findings: [{ code: 'index_entry', chunk: 1 }] });
  });

  test('with a chunk longer than any is not believed', async () => {
    expect(await judge({ index: entry(1, { plain_len: 1 << 30 }) })).toMatchObject({ findings: [{ code: 'index_entry', chunk: 1 }] });
  });

  test('that names fewer chunks disagrees with the seal', async () => {
    const verdict = await judge({ index: { chunks: sample.index.chunks.slice(0, 3) } });
    expect(codes(verdict)).toContain('disagree');
    expect(verdict.standing).toBe('altered');
  });

  test.each(['{', '[]', '{}', JSON.stringify({ version: 2 })])('that is none (%s) is said', async (index) => {
    expect(codes(await judge({ index }))[0]).toBe('index');
  });

  test('that is missing leaves the length only', async () => {
    expect(codes(await judge({ index: null }))).toEqual(['no_index']);
    expect(codes(await judge({ index: null, cast: castOf(sample).slice(0, 100) }))).toEqual(['no_index', 'shorter']);
    expect(codes(await judge({ index: null, cast: join([castOf(sample), new Uint8Array(1)]) }))).toEqual(['unsealed', 'no_index']);
  });
});

test('the names and their gravity are those of the program', () => {
  const source = readFileSync(new URL('../../../../../recordings/src/verify/findings.rs', import.meta.url), 'utf8');
  const [gravity, names] = ['standing', 'code'].map((name) => source.slice(source.indexOf(`pub fn ${name}(&self)`)).split('\n    }\n')[0]!) as [string, string];
  const pairs = [...names.matchAll(/Self::(\w+)(?: \{ \.\. \})? => "(\w+)"/g)].map(([, variant, code]) => [variant!, code!] as const);
  expect(pairs.map(([, code]) => code).sort()).toEqual([...CODES].sort());
  const altered = gravity.slice(0, gravity.indexOf('=> Standing::Altered'));
  for (const [variant, code] of pairs) {
    const finding = { code, chunk: 0, fields: [], reason: '' } as unknown as Finding;
    expect([code, standingOf(finding) === 'altered']).toEqual([code, new RegExp(`Self::${variant}\\b`).test(altered)]);
    expect(sentence(finding)).toMatch(/\.$/);
  }
});

describe('what was played', () => {
  const lines = () => new TextDecoder().decode(castOf(sample)).trim().split('\n').slice(1);
  const piece = (from: number, to: number, more: string[] = []) => `{"snapshot":{"cols":80,"rows":24,"init":"[\\"\\\\"},"events":[${[...lines().slice(from, to), ...more].join(',')}]}`;

  async function compared(pieces: [number, string][]) {
    const played = new Played([0, 2.75]);
    await played.given(...pieces[0]!);
    await judgeWith((plain, n) => played.cast(plain, n === 0));
    await played.end();
    for (const given of pieces.slice(1)) await played.given(...given);
    return played.compared;
  }
  const judgeWith = (witness: (plain: Bytes, n: number) => Promise<void>) =>
    verify(castOf(sample), { index: JSON.stringify(sample.index), seal: sample.seal, session: sample.session }, sample.keys, witness);

  test('is the cast, markers of commands aside, whenever it was played', async () => {
    expect(await compared([[0, piece(0, 10, ['[2.5,"m","ls"]'])], [1, piece(10, 24)]])).toEqual({ good: 2, strange: [] });
  });

  test('is the cast without its markers, too', async () => {
    const marked = new TextEncoder().encode('{"version":2}\n[0.1,"o","a"]\n[0.2,"m","x"]\n[0.3,"o","b"]\n[3,"m","y"]\n[3,"o","c"]\n');
    const played = new Played([0, 3]);
    await played.cast(marked, true);
    await played.end();
    await played.given(0, '{"snapshot":{},"events":[[0.1,"o","a"],[0.2,"m","x"],[0.3,"o","b"]]}');
    await played.given(1, '{"snapshot":{},"events":[[3,"m","y"],[3,"o","c"],[3,"m","ls"]]}');
    expect(played.compared).toEqual({ good: 2, strange: [] });
  });

  test('with an event changed or missing is not', async () => {
    expect(await compared([[0, piece(0, 10).replace('0/1', '0/9')], [1, piece(11, 24)]])).toEqual({ good: 0, strange: [0, 1] });
  });
});
