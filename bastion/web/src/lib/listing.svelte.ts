/** A list from the API: its pages, whether it is loading, and what went wrong. */
import { type Problem, asProblem } from './api';

interface Page<T> {
  items: T[];
  next_cursor?: string | null;
}

export class Listing<T> {
  items = $state.raw<T[]>([]);
  /** Nothing has arrived yet. */
  first = $state(true);
  busy = $state(false);
  problem = $state<Problem | null>(null);
  next = $state<string | null>(null);
  readonly #fetch: (cursor: string | undefined) => Promise<Page<T>>;
  #round = 0;
  #extended = false;

  constructor(fetch: (cursor: string | undefined) => Promise<Page<T>>) {
    this.#fetch = fetch;
  }

  /** From the beginning. The items shown stay until the new ones are there, so that nothing jumps. */
  async load(): Promise<void> {
    await this.#run(undefined, (page) => page.items);
  }

  /** The same, unasked: not while the page is in the background or more than the first page of items is shown. */
  async refresh(): Promise<void> {
    if (this.busy || this.#extended || document.hidden) return;
    await this.load();
  }

  async more(): Promise<void> {
    if (!this.next || this.busy) return;
    this.#extended = true;
    await this.#run(this.next, (page) => [...this.items, ...page.items]);
  }

  async #run(cursor: string | undefined, merge: (page: Page<T>) => T[]): Promise<void> {
    const round = ++this.#round;
    this.busy = true;
    if (cursor === undefined) this.#extended = false;
    try {
      const page = await this.#fetch(cursor);
      if (round !== this.#round) return;
      this.items = merge(page);
      this.next = page.next_cursor ?? null;
      this.problem = null;
      this.first = false;
    } catch (error) {
      if (round === this.#round) this.problem = asProblem(error);
    } finally {
      if (round === this.#round) this.busy = false;
    }
  }
}

/** Refreshes a listing every so often while its page is shown; for `$effect`. */
export function every(ms: number, run: () => void): () => void {
  const timer = setInterval(run, ms);
  return () => clearInterval(timer);
}
