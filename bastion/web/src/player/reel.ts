/** What the player plays: a cast held in memory, or pieces of one that it fetches as it goes; and what is known of either. */
import { Problem, type Recording, ask } from '../lib/api';
import { countUpTo } from '../lib/moment';
import type { Bytes } from '../lib/proof/bytes';
import { Played } from '../lib/proof/played';
import { overhear } from './overheard';

export interface Moment {
  t: number;
  label: string;
}

/** Beyond this the player fetches by itself, and nothing but the player has what it plays. */
const MOST_HELD = 64 << 20;

export interface Reel {
  /** For the player. */
  source: () => object;
  /** The cast itself, if it is held. */
  bytes: Bytes | null;
  /** Compares what the player was given with the cast; only for pieces. */
  played: Played | null;
  /** Why something could not be fetched last time. */
  problem: () => Problem | null;
  markers: () => Moment[];
  /** The moments around `t` at which something happens: the last one up to it and the next; null where that is not known. */
  around: (t: number) => { last: number; next: number } | null;
  close: () => void;
}

/** @throws {Problem} */
export async function openReel(recording: Recording): Promise<Reel> {
  const base = `/api/v1/recordings/${encodeURIComponent(recording.session_id)}/`;
  if (recording.detail?.segmented) return pieces(`${base}segments/`);
  const url = new URL(`${base}cast`, location.href).href;
  if ((recording.plain_size ?? 0) > MOST_HELD) return unknown({ url });
  const answer = await ask(url);
  const bytes = await answer.arrayBuffer().catch(() => {
    throw new Problem(0, { title: 'The recording breaks off', detail: 'What was sent is not all of it: it is damaged, or the connection was lost.' }, null);
  });
  return held(new Uint8Array(bytes));
}

function unknown(source: object): Reel {
  return { source: () => ({ ...source }), bytes: null, played: null, problem: () => null, markers: () => [], around: () => null, close: () => {} };
}

function held(bytes: Bytes): Reel {
  let known: Event[] | null = null;
  const events = () => (known ??= eventsOf(new TextDecoder().decode(bytes)));
  return {
    ...unknown({}),
    source: () => ({ data: () => new Response(bytes) }),
    bytes,
    markers: () => events().filter(([, code]) => code === 'm').map(([t, , label]) => ({ t, label: String(label) })),
    around: (t) => between(events(), t),
  };
}

type Event = [t: number, code: string, data: unknown];

function eventsOf(cast: string): Event[] {
  return cast.split('\n').slice(1).flatMap((line) => {
    try {
      return [JSON.parse(line) as Event];
    } catch {
      return [];
    }
  });
}

interface Piece {
  events: Event[];
}
interface Listed {
  segments: { start: number }[];
  markers?: [number, string][];
}

/** Times of the events of the pieces heard last: those that may be played now. */
const REMEMBERED = 6;

function pieces(base: string): Reel {
  let list: Listed | null = null;
  let problem: Problem | null = null;
  const heard = new Map<number, Event[]>();
  const reel: Reel = {
    ...unknown({ url: new URL(`${base}index.json`, location.href).href, format: 'segmented' }),
    problem: () => problem,
    markers: () => (list?.markers ?? []).map(([t, label]) => ({ t, label })),
    around(t) {
      const starts = list?.segments ?? [];
      const n = countUpTo(t, starts.length, (n) => starts[n]!.start) - 1;
      const here = between(heard.get(n) ?? [], t);
      const following = starts[n + 1]?.start ?? Infinity;
      return here && { ...here, next: Math.min(here.next, following) };
    },
    close: overhear(base, {
      problem: (found) => (problem = found),
      text(name, text) {
        problem = null;
        if (name === 'index.json') {
          list ??= parsed<Listed>(text);
          if (list) reel.played ??= new Played(list.segments.map(({ start }) => start));
          return;
        }
        const n = Number.parseInt(name, 10);
        heard.delete(n);
        heard.set(n, (parsed<Piece>(text)?.events ?? []).map(([t, code]) => [t, code, null]));
        for (const old of [...heard.keys()].slice(0, -REMEMBERED)) heard.delete(old);
        void reel.played?.given(n, text);
      },
    }),
  };
  return reel;
}

function parsed<T>(text: string): T | null {
  try {
    return JSON.parse(text) as T;
  } catch {
    // The player, which gets the same text, says so.
    return null;
  }
}

function between(events: Event[], t: number): { last: number; next: number } | null {
  const passed = countUpTo(t, events.length, (n) => events[n]![0]);
  return events.length === 0 ? null : { last: events[passed - 1]?.[0] ?? 0, next: events[passed]?.[0] ?? Infinity };
}
