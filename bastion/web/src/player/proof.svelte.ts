/** Whether the recording on this page is what was sealed: checked by the browser, over the bytes that it plays. */
import { type Problem, type Recording, ask, asProblem } from '../lib/api';
import { type Finding, type Standing, firstBad, sentence } from '../lib/proof/findings';
import { CannotVerify, type Jwk } from '../lib/proof/seal';
import type { Claims } from '../lib/proof/shapes';
import { type Verdict, verify } from '../lib/proof/verify';
import type { Reel } from './reel';

export const KEYS = '/.well-known/jwks.json';

export interface Outcome {
  standing: Standing;
  /** Sealed after a crash, as it stood. */
  recovered: boolean;
  firstBad: number | null;
  sentences: string[];
  kid: string | null;
  claims: Claims | null;
  chunks: number | null;
  /** Who found out: this browser, or the bastion when the browser could not. */
  by: 'page' | 'bastion';
}

export type Check =
  | { state: 'unchecked' }
  /** `part`: how much of it, 0 to 1. */
  | { state: 'checking'; part: number }
  | { state: 'done'; outcome: Outcome }
  /** `ask`: the bastion may be able to tell. */
  | { state: 'failed'; text: string; ask: boolean };

export class Proof {
  check = $state.raw<Check>({ state: 'unchecked' });
  /** Pieces that the player was given and that are not the recording's. */
  strange = $state.raw<number[]>([]);
  readonly #base: string;
  #round = 0;
  /** Whether the cast is what was sealed, so that what is played can be held against it. */
  #proven = false;

  constructor(readonly session: string) {
    this.#base = `/api/v1/recordings/${encodeURIComponent(session)}`;
  }

  /** Checks `reel`; without one, because it cannot be played, what the bastion has. */
  async run(recording: Recording, reel: Reel | null): Promise<void> {
    const round = ++this.#round;
    this.check = { state: 'checking', part: 0 };
    this.#proven = false;
    this.strange = [];
    try {
      const outcome = await this.#verify(recording, reel, (part) => {
        if (round === this.#round) this.check = { state: 'checking', part };
      });
      if (round === this.#round) this.check = { state: 'done', outcome };
    } catch (error) {
      if (round !== this.#round) return;
      if (error instanceof CannotVerify) this.check = { state: 'failed', text: error.message, ask: true };
      else await this.ask(error);
    }
  }

  async #verify(recording: Recording, reel: Reel | null, tell: (part: number) => void): Promise<Outcome> {
    if (!globalThis.crypto?.subtle) throw new CannotVerify('This browser keeps its cryptography for pages that come over HTTPS.');
    const text = (path: string) => ask(path).then((answer) => answer.text());
    const [index, seal, keys] = await Promise.all([text(`${this.#base}/index`), text(`${this.#base}/seal`), ask(KEYS).then((answer) => answer.json() as Promise<{ keys: Jwk[] }>)]);
    const cast = reel?.bytes ?? (await ask(`${this.#base}/cast`)).body;
    if (!cast) throw new CannotVerify('This browser cannot read a recording piece by piece.');
    const played = reel?.played;
    played?.restart();
    const all = recording.plain_size || 1;
    let read = 0;
    const verdict = await verify(cast, { index, seal, session: this.session }, keys.keys, async (plain, n) => {
      await played?.cast(plain, n === 0);
      read += plain.length;
      tell(Math.min(1, read / all));
    });
    await played?.end();
    this.#proven = verdict.proven;
    this.compare(reel);
    return outcomeOf(verdict);
  }

  /** Holds what has been played meanwhile against what was checked. */
  compare(reel: Reel | null): void {
    const strange = this.#proven ? (reel?.played?.compared.strange ?? []) : [];
    if (strange.length !== this.strange.length) this.strange = strange;
  }

  /** Lets the bastion check, after the browser could not because of `reason`. */
  async ask(reason?: unknown): Promise<void> {
    const round = ++this.#round;
    this.check = { state: 'checking', part: 0 };
    try {
      const told = (await (await ask(`${this.#base}/verify`)).json()) as Told;
      if (round !== this.#round) return;
      // What stopped the browser was not the recording.
      if (reason !== undefined && told.verdict === 'whole') this.check = { state: 'failed', text: asProblem(reason).sentence, ask: true };
      else this.check = { state: 'done', outcome: outcomeTold(told) };
    } catch (error) {
      if (round !== this.#round) return;
      this.check = { state: 'failed', text: why(asProblem(error)), ask: false };
    }
  }
}

const why = (problem: Problem): string => (problem.code === 'not_stored' ? 'It is not stored yet, and is sealed when it is.' : problem.sentence);

function outcomeOf(verdict: Verdict): Outcome {
  const { standing, findings, seal, chunks } = verdict;
  const claims = seal?.claims ?? null;
  return { standing, recovered: claims?.recovered ?? false, firstBad: firstBad(findings), sentences: findings.map(sentence), kid: seal?.kid ?? kidOf(findings), claims, chunks, by: 'page' };
}

function kidOf(findings: Finding[]): string | null {
  return findings.flatMap((finding) => (finding.code === 'unknown_key' ? [finding.kid] : []))[0] ?? null;
}

/** What the bastion says of a recording, as `castellan verify --json` does. */
interface Told {
  verdict: Standing;
  recovered: boolean | null;
  first_bad_chunk: number | null;
  findings: { code: string; message: string; chunk?: number }[];
  kid: string | null;
  seal: Claims | null;
  chunks: number | null;
}

function outcomeTold(told: Told): Outcome {
  const sentences = told.findings.map(({ message }) => `${message.charAt(0).toUpperCase()}${message.slice(1)}.`);
  return { standing: told.verdict, recovered: told.recovered ?? false, firstBad: told.first_bad_chunk, sentences, kid: told.kid, claims: told.seal, chunks: told.chunks, by: 'bastion' };
}

/** The outcome in two or three words, and its tone. */
export function headline(check: Check, strange: number[]): { text: string; tone: 'good' | 'warn' | 'bad' | 'calm' } {
  if (strange.length > 0) return { text: 'Altered: not what was recorded', tone: 'bad' };
  if (check.state === 'unchecked') return { text: 'Not checked', tone: 'calm' };
  if (check.state === 'checking') return { text: `Checking${check.part > 0 ? ` ${Math.floor(check.part * 100)} %` : '…'}`, tone: 'calm' };
  if (check.state === 'failed') return { text: 'Could not be checked', tone: 'warn' };
  const { standing, recovered, firstBad } = check.outcome;
  switch (standing) {
    case 'whole':
      return { text: recovered ? 'Authentic, sealed after a crash' : 'Authentic and whole', tone: 'good' };
    case 'incomplete':
      return { text: 'Incomplete', tone: 'warn' };
    case 'unknown_key':
      return { text: 'Unknown key', tone: 'warn' };
    case 'altered':
      return { text: firstBad === null ? 'Altered' : `Altered: chunk ${firstBad}`, tone: 'bad' };
  }
}
