/**
 * Whether a recording is what was sealed: cast, index and seal against each other, by the rules of `castellan verify`.
 *
 * Only the seal is believed, and only once its signature holds. The index is a map that anybody may have drawn.
 */
import { type Bytes, Pieces } from './bytes';
import { type Finding, type Standing, gravest, sorted } from './findings';
import { type Jwk, type Seal, SealFault, openSeal } from './seal';
import { type Claims, type Facts, type Index, Misshapen, readIndex } from './shapes';
import { Chain, type Stop, type Walk, type Witness, byIndex, uncut } from './walk';

/** What came with a cast; an empty file is a missing one. */
export interface Beside {
  index: string | null;
  seal: string | null;
  /** The session whose recording this is said to be. */
  session: string | null;
}

export interface Verdict {
  standing: Standing;
  /** Everything that is wrong, the gravest first. */
  findings: Finding[];
  /** The seal, if its signature holds. */
  seal: Seal | null;
  /** Chunks there should be: by the seal, else, unproven, by the index. */
  chunks: number | null;
  /** Chunks, from the first, that are what the index says. */
  matched: number;
  /** Whether every byte of the cast is as sealed, whatever the index says. */
  proven: boolean;
}

/** What a walk came to. */
interface Judged {
  findings: Finding[];
  matched: number;
  proven: boolean;
}

/**
 * Verifies a plain cast; reads as much of it as can be judged, a chunk at a time.
 *
 * @throws {CannotVerify} and whatever reading `cast` throws; what it holds is a finding, never an error.
 */
export async function verify(cast: ReadableStream<Uint8Array> | Bytes, beside: Beside, keys: Jwk[], witness: Witness = () => {}): Promise<Verdict> {
  const [seal, noSeal] = await openedSeal(beside.seal, keys);
  const [index, noIndex] = readMap(beside.index);
  const claims = seal?.claims ?? null;
  const facts = claims?.facts ?? index?.facts ?? null;
  const chunks = claims?.chunks ?? index?.chunks.length ?? null;
  const findings: Finding[] = [noSeal, noIndex].filter((finding) => finding !== null);
  if (beside.session !== null && facts && facts.session !== beside.session) {
    findings.push({ code: 'other_session', named: beside.session, found: facts.session });
  }
  const pieces = new Pieces(cast);
  try {
    const judged = index ? await judgeByIndex(pieces, index, claims, chunks, witness) : await judgeAlone(pieces, claims);
    findings.push(...judged.findings);
    // Not reached while the checks are what they are; should one be lost, nothing passes for that.
    if (findings.length === 0 && !judged.proven) findings.push({ code: 'unsealed' });
    return { standing: gravest(findings), findings: sorted(findings), seal, chunks, matched: judged.matched, proven: judged.proven };
  } finally {
    pieces.drop();
  }
}

async function openedSeal(text: string | null, keys: Jwk[]): Promise<[Seal | null, Finding | null]> {
  const compact = text?.trim() ?? '';
  if (!compact) return [null, { code: 'no_seal' }];
  try {
    return [await openSeal(compact, keys), null];
  } catch (error) {
    if (!(error instanceof SealFault)) throw error;
    return [null, error.kid === null ? { code: 'seal', reason: error.message } : { code: 'unknown_key', kid: error.kid }];
  }
}

function readMap(text: string | null): [Index | null, Finding | null] {
  if (!text) return [null, { code: 'no_index' }];
  try {
    return [readIndex(text), null];
  } catch (error) {
    if (!(error instanceof Misshapen)) throw error;
    return [null, { code: 'index', reason: error.message }];
  }
}

/** Walks the cast as the index cuts it. */
async function judgeByIndex(cast: Pieces, index: Index, claims: Claims | null, chunks: number | null, witness: Witness): Promise<Judged> {
  const fields = claims ? disagreements(index, claims) : [];
  const root = claims?.facts ?? index.facts;
  let broken = await brokenLink(index, root);
  // Of two sessions' index and seal, the fields say all there is to say.
  if (broken === 0 && fields.includes('facts')) broken = await brokenLink(index, index.facts);
  const walk = await byIndex(cast, index, root, claims?.plain_len ?? null, witness);
  const proven = walk.stop.why === 'end' && claims !== null && isSealed(walk, claims);
  const entry = (chunk: number): Finding => ({ code: 'index_entry', chunk });
  const said: (Finding | null)[] = [ofCast(walk, index, proven, chunks), ...[broken, walk.mistimed].map((n) => (n === null ? null : entry(n)))];
  const findings: Finding[] = fields.length > 0 ? [{ code: 'disagree', fields }] : [];
  for (const finding of said) {
    if (finding && !findings.some((known) => JSON.stringify(known) === JSON.stringify(finding))) findings.push(finding);
  }
  return { findings, matched: walk.matched, proven };
}

function ofCast(walk: Walk, index: Index, proven: boolean, of: number | null): Finding | null {
  const chunk = (n: number): Finding => {
    const found = index.chunks[n];
    const span = found && { plain_at: found.plain_at, plain_len: found.plain_len, first: found.first, last: found.last };
    return { code: 'chunk', chunk: n, ...(span && { span }) };
  };
  if (walk.differs !== null) return proven ? { code: 'index_entry', chunk: walk.differs } : chunk(walk.differs);
  const { stop } = walk;
  switch (stop.why) {
    case 'end':
      return null;
    case 'empty':
      return { code: 'empty' };
    case 'surplus':
      return { code: 'surplus', chunk: walk.chunks };
    case 'totals':
      return { code: 'index', reason: 'its totals are not its chunks’' };
    case 'cut':
      return { code: 'cut', chunk: stop.chunk, of };
    case 'broken':
      return chunk(stop.chunk);
    case 'entry':
      return { code: 'index_entry', chunk: stop.chunk };
  }
}

/** Without an index nothing shows where a plain cast's chunks begin: only its length can be judged. */
async function judgeAlone(cast: Pieces, claims: Claims | null): Promise<Judged> {
  const walk = await uncut(cast, claims?.plain_len ?? 0);
  return { findings: ofLength(walk.stop, walk.plain, claims), matched: 0, proven: false };
}

function ofLength(stop: Stop, have: number, claims: Claims | null): Finding[] {
  if (stop.why === 'empty') return [{ code: 'empty' }];
  if (!claims) return [];
  if (stop.why === 'surplus') return [{ code: 'unsealed' }];
  return have < claims.plain_len ? [{ code: 'shorter', have, sealed: claims.plain_len }] : [];
}

const sameFacts = (a: Facts, b: Facts): boolean => (Object.keys(a) as (keyof Facts)[]).every((name) => a[name] === b[name]);

/** What index and seal both say, and not the same. */
function disagreements(index: Index, claims: Claims): string[] {
  const fields: [string, boolean][] = [
    ['facts', sameFacts(index.facts, claims.facts)],
    ['chunks', index.chunks.length === claims.chunks],
    ['plain_len', index.plain_len === claims.plain_len],
    ['head', index.chunks.at(-1)?.chain === claims.head],
    ['output_bytes', index.output_bytes === claims.output_bytes],
    ['output_sha256', index.output_sha256 === claims.output_sha256],
    ['lost_bytes', index.lost_bytes === claims.lost_bytes],
  ];
  return fields.filter(([, same]) => !same).map(([name]) => name);
}

/** The first entry of the index that does not continue the index's own chain from `root`. */
async function brokenLink(index: Index, root: Facts): Promise<number | null> {
  const chain = await Chain.of(root);
  for (const [n, chunk] of index.chunks.entries()) {
    if (!/^[0-9a-f]{64}$/.test(chunk.sha256)) return n;
    await chain.push(Uint8Array.from(chunk.sha256.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16)));
    if (chain.head !== chunk.chain) return n;
  }
  return null;
}

function isSealed(walk: Walk, claims: Claims): boolean {
  return walk.head === claims.head && walk.chunks === claims.chunks && walk.plain === claims.plain_len;
}
