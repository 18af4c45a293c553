/**
 * Which output is a repetition of the past. A program's questions in it (what terminal are you, where is the cursor)
 * were asked of the terminal as it was then: an answer now would be typed into whatever runs now.
 */

/** More than this many missing bytes the bastion never repeats: it sends the screen instead. */
export const REPLAY_BYTES = 1024 * 1024;
/** No output for this long means that what was missing has come, in milliseconds. */
export const QUIET_MS = 150;
/** However steadily output comes, after this long it is taken for live, in milliseconds. */
export const REPLAY_MS = 10_000;

/**
 * The bastion does not say where the missing bytes end and the live ones begin, but it sends the missing ones as fast
 * as they are taken, from `ready` on. So output counts as repeated until, after `ready`, nothing has come for 150 ms;
 * programs that write without a pause are live after 1 MiB (more is never repeated) or ten seconds, whichever is
 * first. Erring costs, one way, an answer that comes for a question nobody asks any more, the other way one unanswered
 * question in the first moment after coming back; the first corrupts a command line, so the rule leans to silence.
 */
export class Replay {
  readonly #began: number;
  #last: number;
  #bytes = 0;
  #over = false;

  constructor(now: number) {
    this.#began = this.#last = now;
  }

  /** Whether these bytes of output, just come, repeat the past. */
  covers(bytes: number, now: number): boolean {
    if (now - this.#last >= QUIET_MS || now - this.#began >= REPLAY_MS || this.#bytes >= REPLAY_BYTES) this.#over = true;
    this.#last = now;
    this.#bytes += bytes;
    return !this.#over;
  }
}
