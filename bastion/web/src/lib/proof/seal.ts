/** The seal: a compact JWS, EdDSA, by one of the bastion's recording keys; checked by the browser itself. */
import { fromBase64Url } from './bytes';
import { type Claims, Misshapen, parse, readClaims } from './shapes';

const TYPE = 'castellan-seal+jwt';
/** Keys whose id begins like this sign seals, and nothing else. */
const RECORDING_KEY = 'rec-';
const LONGEST = 8 * 1024;

/** A public key as the bastion publishes it at /.well-known/jwks.json. */
export interface Jwk {
  kty: string;
  crv: string;
  x: string;
  kid: string;
  alg: string;
}

export interface Seal {
  kid: string;
  claims: Claims;
}

/** A seal that is not believed; with `kid` because nobody knows the key, else for the reason said. */
export class SealFault extends Error {
  readonly kid: string | null;

  constructor(reason: string, kid: string | null = null) {
    super(reason);
    this.kid = kid;
  }
}

/** This browser has no Ed25519, or no cryptography at all. */
export class CannotVerify extends Error {}

/** @throws {SealFault | CannotVerify} */
export async function openSeal(compact: string, keys: Jwk[]): Promise<Seal> {
  const parts = compact.length <= LONGEST ? compact.split('.') : [];
  const [head, payload, signature] = parts.map((part) => fromBase64Url(part));
  if (parts.length !== 3 || !head || !payload || !signature) throw new SealFault('it is no token');
  const kid = kidOf(json(head));
  const key = keys.find((key) => key.kid === kid);
  if (!key) throw new SealFault(`the key ${kid} is not known`, kid);
  const signed = new TextEncoder().encode(`${parts[0]}.${parts[1]}`);
  if (!(await crypto.subtle.verify('Ed25519', await publicKey(key), signature, signed))) throw new SealFault('its signature does not match');
  try {
    return { kid, claims: readClaims(json(payload)) };
  } catch (error) {
    throw error instanceof Misshapen ? new SealFault(error.message) : error;
  }
}

/** The key that a header names, if there is nothing in it that a seal's does not have. */
function kidOf(header: unknown): string {
  const { alg, typ, kid, ...more } = (typeof header === 'object' && header !== null ? header : {}) as Record<string, unknown>;
  if (typeof alg !== 'string' || typeof typ !== 'string' || typeof kid !== 'string' || Object.keys(more).length > 0) throw new SealFault('it is no token');
  if (!kid.startsWith(RECORDING_KEY)) throw new SealFault(`its key ${kid} is none for recordings`);
  if (alg !== 'EdDSA') throw new SealFault('its algorithm is not EdDSA');
  if (typ !== TYPE) throw new SealFault('it is a token of another type');
  return kid;
}

async function publicKey(key: Jwk): Promise<CryptoKey> {
  const raw = fromBase64Url(key.x);
  if (key.kty !== 'OKP' || key.crv !== 'Ed25519' || key.alg !== 'EdDSA' || raw?.length !== 32) throw new SealFault(`the key ${key.kid} is no Ed25519 key`);
  if (!globalThis.crypto?.subtle) throw new CannotVerify('This browser keeps its cryptography for pages that come over HTTPS.');
  try {
    return await crypto.subtle.importKey('raw', raw, 'Ed25519', false, ['verify']);
  } catch {
    throw new CannotVerify('This browser cannot check Ed25519 signatures yet.');
  }
}

function json(bytes: Uint8Array): unknown {
  try {
    return parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch {
    throw new SealFault('it is no token');
  }
}
