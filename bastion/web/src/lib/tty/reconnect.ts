/**
 * When to try again after a terminal's connection was lost: soon at first, then every few seconds for as long as the
 * bastion has not said that the session is over. Knows nothing of sockets or of time but what it is told.
 */

/** The first pause, doubled with every failure, in milliseconds. */
export const FIRST_MS = 500;
/** The longest pause, in milliseconds. */
export const LONGEST_MS = 5000;

export type Standing =
  /** Connected, or over: nothing to do. */
  | { state: 'idle' }
  /** The next try begins at `until`. */
  | { state: 'waiting'; until: number; tries: number }
  | { state: 'trying'; tries: number }
  /** No try makes sense before the user has signed in again. */
  | { state: 'held'; tries: number };

export interface Timing {
  now(): number;
  after(ms: number, run: () => void): () => void;
  /** From 0 up to, but not, 1. */
  random(): number;
}

export class Reconnect {
  #standing: Standing = { state: 'idle' };
  #cancel: (() => void) | null = null;
  readonly #timing: Timing;
  readonly #attempt: () => void;
  readonly #changed: (standing: Standing) => void;

  /** `attempt` begins a try; its end is told by `failed`, `succeeded` or `stop`. */
  constructor(timing: Timing, attempt: () => void, changed: (standing: Standing) => void) {
    this.#timing = timing;
    this.#attempt = attempt;
    this.#changed = changed;
  }

  get standing(): Standing {
    return this.#standing;
  }

  /** The connection is gone, or a try came to nothing. The pause is at least `leastMs` (the bastion may ask for more). */
  failed(leastMs = 0): void {
    const tries = this.#tries;
    const full = Math.min(LONGEST_MS, FIRST_MS * 2 ** Math.min(tries, 10));
    // Half of it is chance, so that a thousand browsers do not come back in the same instant.
    const pause = Math.max(leastMs, full / 2 + (full / 2) * this.#timing.random());
    this.#set({ state: 'waiting', until: this.#timing.now() + pause, tries });
    this.#cancel = this.#timing.after(pause, () => this.#go());
  }

  /** Something speaks for success (the network is back, the page is looked at, the user asks): try at once. */
  nudge(): void {
    if (this.#standing.state === 'waiting') this.#go();
  }

  /** The bastion does not know who asks: no try until `resume`. */
  hold(): void {
    this.#set({ state: 'held', tries: this.#tries });
  }

  resume(): void {
    if (this.#standing.state === 'held') this.#go();
  }

  /** Connected again, or over: no more tries. */
  stop(): void {
    this.#set({ state: 'idle' });
  }

  get #tries(): number {
    return this.#standing.state === 'idle' ? 0 : this.#standing.tries;
  }

  #go(): void {
    this.#set({ state: 'trying', tries: this.#tries + 1 });
    this.#attempt();
  }

  #set(standing: Standing): void {
    this.#cancel?.();
    this.#cancel = null;
    this.#standing = standing;
    this.#changed(standing);
  }
}
