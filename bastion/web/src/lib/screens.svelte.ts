/** The search across everything that was on a screen: it goes back in time, a while per request, until told to stop. */
import { type Problem, type Sighting, api, asProblem, call } from './api';
import { period } from './period';

/** Recordings found after which it waits to be told to go on, and requests, each of which takes up to two seconds. */
const ENOUGH = 10;
const ROUNDS = 6;

export class Screens {
  found = $state.raw<Sighting[]>([]);
  busy = $state(false);
  problem = $state.raw<Problem | null>(null);
  /** How far back it has looked. */
  reached = $state<string | null>(null);
  /** From where it can go on; null when it has looked at everything. */
  next = $state<string | null>(null);
  /** Recordings whose transcript could not be read. */
  unreadable = $state(0);
  #q = '';
  #since = '';
  #stop = new AbortController();

  /** From the newest; forgets what was found before. */
  async search(q: string, since: string): Promise<void> {
    this.#stop.abort();
    [this.#q, this.#since] = [q, since];
    this.found = [];
    this.unreadable = 0;
    this.reached = this.next = this.problem = null;
    this.busy = false;
    if (q) await this.#run(undefined);
  }

  async goOn(): Promise<void> {
    if (!this.busy) await this.#run(this.next ?? undefined);
  }

  stop(): void {
    this.#stop.abort();
    this.busy = false;
  }

  async #run(cursor: string | undefined): Promise<void> {
    const stop = (this.#stop = new AbortController());
    const enough = this.found.length + ENOUGH;
    this.busy = true;
    this.problem = null;
    try {
      for (let round = 0; round < ROUNDS && this.found.length < enough; round += 1) {
        const query = { q: this.#q, limit: ENOUGH, ...(cursor && { cursor }), ...period(this.#since) };
        const page = await call(api.GET('/recordings/search', { params: { query }, signal: stop.signal }));
        if (stop.signal.aborted) return;
        this.found = [...this.found, ...page.items];
        this.reached = page.searched_to ?? this.reached;
        this.unreadable += page.unreadable ?? 0;
        this.next = page.next_cursor ?? null;
        if (!this.next) break;
        cursor = this.next;
      }
    } catch (error) {
      if (!stop.signal.aborted) this.problem = asProblem(error);
    } finally {
      if (!stop.signal.aborted) this.busy = false;
    }
  }
}
