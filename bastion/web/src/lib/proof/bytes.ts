/** Bytes as proofs need them: hex, base64url, hashes, and a stream read piece by piece. */

export type Bytes = Uint8Array<ArrayBuffer>;

export const hex = (bytes: Bytes): string => Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');

/** The bytes that base64url without padding stands for; null for anything else. */
export function fromBase64Url(text: string): Bytes | null {
  if (!/^[A-Za-z0-9_-]*$/.test(text) || text.length % 4 === 1) return null;
  const bytes = Uint8Array.from(atob(text.replaceAll('-', '+').replaceAll('_', '/')), (char) => char.charCodeAt(0));
  return toBase64Url(bytes) === text ? bytes : null;
}

export function toBase64Url(bytes: Bytes): string {
  return btoa(String.fromCharCode(...bytes)).replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', '');
}

export async function sha256(bytes: Bytes): Promise<Bytes> {
  return new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
}

export function join(parts: Bytes[]): Bytes {
  const all = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

/** A stream, or bytes at hand, taken in pieces of the taker's length; never more of it in memory than a piece. */
export class Pieces {
  readonly #next: () => Promise<Bytes | null>;
  readonly #cancel: () => void;
  #rest: Bytes = new Uint8Array();

  constructor(from: ReadableStream<Uint8Array> | Bytes) {
    if (from instanceof Uint8Array) {
      this.#rest = from;
      this.#next = async () => null;
      this.#cancel = () => {};
      return;
    }
    const reader = from.getReader();
    this.#next = async () => {
      const { done, value } = await reader.read();
      return done ? null : (value as Bytes);
    };
    this.#cancel = () => void reader.cancel().catch(() => undefined);
  }

  /** Whether nothing is left. */
  async isOver(): Promise<boolean> {
    while (this.#rest.length === 0) {
      const next = await this.#next();
      if (next === null) return true;
      this.#rest = next;
    }
    return false;
  }

  /** The next `length` bytes; fewer at the end. */
  async take(length: number): Promise<Bytes> {
    const parts: Bytes[] = [];
    let missing = length;
    while (missing > 0 && !(await this.isOver())) {
      const part = this.#rest.subarray(0, missing);
      this.#rest = this.#rest.subarray(part.length);
      parts.push(part);
      missing -= part.length;
    }
    return parts.length === 1 ? parts[0]! : join(parts);
  }

  /** Lets go of what is left. */
  drop(): void {
    this.#cancel();
  }
}
