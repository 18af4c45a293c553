/**
 * Hears what this page fetches from under an address. The player fetches pieces by itself; what it was given, and no
 * second copy of it, is what must be compared with the recording.
 */
import { Problem, problemOf } from '../lib/api';

export interface Ears {
  text: (name: string, text: string) => void;
  problem: (problem: Problem) => void;
}

/** Hears until what it returns is called. `base` is a path that ends in `/`. */
export function overhear(base: string, ears: Ears): () => void {
  const fetched = window.fetch;
  window.fetch = async (...given) => {
    const [asked] = given;
    const { pathname } = new URL(asked instanceof Request ? asked.url : asked, location.href);
    if (!pathname.startsWith(base)) return fetched(...given);
    const response = await fetched(...given);
    if (!response.ok) {
      ears.problem(new Problem(response.status, await problemOf(response.clone()), response.headers.get('Retry-After')));
      return response;
    }
    const text = await response.text();
    ears.text(pathname.slice(base.length), text);
    return new Response(text);
  };
  return () => void (window.fetch = fetched);
}
