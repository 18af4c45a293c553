/** The terminals of a browser tab, kept over a reload; not over its end, nor for another user. */
import type { Mode } from '../tty/connection';

const KEY = 'castellan.terminals';

export interface Remembered {
  session: string;
  asset: string;
  hostname: string;
  title: string;
  command: string;
  mode: Mode;
  current: boolean;
}

export interface Store {
  getItem(key: string): string | null;
  setItem(key: string, value: string): void;
  removeItem(key: string): void;
}

export function remember(store: Store, user: string, terminals: Remembered[]): void {
  try {
    if (terminals.length === 0) store.removeItem(KEY);
    else store.setItem(KEY, JSON.stringify({ user, terminals }));
  } catch {
    // Without storage a reload is a fresh start; the sessions are in the list.
  }
}

/** What was remembered for this user; whatever else may be in the storage, an empty list. */
export function recall(store: Store, user: string): Remembered[] {
  try {
    const { user: whose, terminals } = JSON.parse(store.getItem(KEY) ?? '{}') as { user?: unknown; terminals?: unknown };
    if (whose !== user || !Array.isArray(terminals)) return [];
    return terminals.filter((it) => typeof it?.session === 'string').map(clean);
  } catch {
    return [];
  }
}

function clean(it: Record<string, unknown>): Remembered {
  const text = (value: unknown) => (typeof value === 'string' ? value : '');
  return {
    session: text(it.session),
    asset: text(it.asset),
    hostname: text(it.hostname),
    title: text(it.title),
    command: text(it.command),
    mode: it.mode === 'watch' ? 'watch' : 'control',
    current: it.current === true,
  };
}
