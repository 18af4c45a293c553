/** Test data: a recording as the bastion writes one, signed with a key of its own. */
import { type Bytes, hex, join, sha256, toBase64Url } from './bytes';
import type { Jwk } from './seal';
import { type Chunk, type Facts, type Index, canonical } from './shapes';

const text = new TextEncoder();

export interface Sample {
  /** The plain cast's chunks. */
  chunks: Bytes[];
  index: Index;
  seal: string;
  keys: Jwk[];
  session: string;
}

export const castOf = (sample: Sample): Bytes => join(sample.chunks);

export async function newKey(name: string): Promise<{ jwk: Jwk; sign: (bytes: Bytes) => Promise<Bytes> }> {
  const pair = (await crypto.subtle.generateKey('Ed25519', true, ['sign', 'verify'])) as CryptoKeyPair;
  const raw = new Uint8Array(await crypto.subtle.exportKey('raw', pair.publicKey));
  return {
    jwk: { kty: 'OKP', crv: 'Ed25519', alg: 'EdDSA', kid: `rec-${name}`, x: toBase64Url(raw) },
    sign: async (bytes) => new Uint8Array(await crypto.subtle.sign('Ed25519', pair.privateKey, bytes)),
  };
}

export async function sign(key: Awaited<ReturnType<typeof newKey>>, claims: object, header: object = {}): Promise<string> {
  const part = (value: object) => toBase64Url(text.encode(JSON.stringify(value)));
  const message = `${part({ alg: 'EdDSA', kid: key.jwk.kid, typ: 'castellan-seal+jwt', ...header })}.${part(claims)}`;
  return `${message}.${toBase64Url(await key.sign(text.encode(message)))}`;
}

/** `count` chunks of `lines` events, 0.25 s apart. */
export async function makeSample({ session = '0199a7c2-0000-7000-8000-000000000001', count = 4, lines = 6, claims = {}, key = null as Awaited<ReturnType<typeof newKey>> | null } = {}): Promise<Sample> {
  const facts: Facts = { asset: 'a-1', cols: 80, rows: 24, session, started: '2026-11-03T09:00:00.000Z', user: 'ü\u2028"1' };
  const signer = key ?? (await newKey('one'));
  let time = 0;
  const chunks = Array.from({ length: count }, (_, n) => {
    const header = n === 0 ? [JSON.stringify({ version: 2, width: 80, height: 24, timestamp: 1_793_696_400 })] : [];
    const events = Array.from({ length: lines }, (_, line) => JSON.stringify([(time += 0.25), 'o', `\u001b[1m城堡 ${n}/${line}\r\n`]));
    return text.encode([...header, ...events, ''].join('\n'));
  });
  let chain = await sha256(text.encode(canonical(facts)));
  const entries: Chunk[] = [];
  let plain_at = 0;
  for (const [n, chunk] of chunks.entries()) {
    const digest = await sha256(chunk);
    chain = await sha256(join([chain, digest]));
    const [first, last] = [n * lines * 0.25 + 0.25, (n + 1) * lines * 0.25];
    entries.push({ n, first, last, at: n * 100, len: 100, plain_at, plain_len: chunk.length, sha256: hex(digest), chain: hex(chain) });
    plain_at += chunk.length;
  }
  const totals = { plain_len: plain_at, output_bytes: 1234, output_sha256: 'ab'.repeat(32), lost_bytes: 0 };
  const index: Index = { version: 1, session, compression: 'zstd', facts, chunks: entries, stored_len: count * 100, ...totals };
  const all = { iss: 'https://bastion.example', iat: 1_793_700_000, sub: session, facts, ended: '2026-11-03T09:10:00.000Z', reason: 'exit', chunks: count, head: hex(chain), recovered: false, input: false, ...totals, ...claims };
  return { chunks, index, seal: await sign(signer, all), keys: [signer.jwk], session };
}
