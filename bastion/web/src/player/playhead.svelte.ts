/** Where the player is, and the way to send it elsewhere; shared by the player and what stands beside it. */

export class Playhead {
  /** Seconds from the recording's start. */
  now = $state(0);
  playing = $state(false);
  #go: ((t: number) => void) | null = null;

  constructor(start: number) {
    this.now = start;
  }

  /** The player, once it is there; null when it has gone. */
  follow(go: ((t: number) => void) | null): void {
    this.#go = go;
  }

  seek(t: number): void {
    this.now = t;
    this.#go?.(t);
  }
}

/** The moment that the page's address names, in seconds. */
export function momentOf(query: URLSearchParams): number {
  const t = Number(query.get('t') ?? '');
  return Number.isFinite(t) && t > 0 ? t : 0;
}

/** The address of a moment. */
export function linkTo(t: number, q: string): string {
  const url = new URL(location.pathname, location.href);
  url.searchParams.set('t', String(Math.floor(t * 100) / 100));
  if (q) url.searchParams.set('q', q);
  return url.href;
}
