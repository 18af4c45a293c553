/** One terminal: from asking the bastion, over the socket, to the reason it ended. */
import { type Problem, type Ticket, api, asProblem, call } from '../api';
import { notices } from '../notices.svelte';
import { cleanTitle } from '../text';
import type { Ending } from '../tty/close';
import { Connection } from '../tty/connection';
import { browserClock, dial } from '../tty/socket';
import type { Screen } from './screen';
import { settings } from './settings.svelte';

export type Phase = 'asking' | 'approval' | 'dialling' | 'host' | 'open' | 'ended' | 'refused';

export interface Target {
  asset: string;
  hostname: string;
  command: string;
  reason: string;
}

/** What a terminal asks of the page around it. */
export interface Surroundings {
  link(text: string): void;
  paste(text: string): void;
  find(): void;
  leave(): void;
}

let last = 0;

export class Tab {
  readonly id = ++last;
  readonly target: Target;
  phase = $state<Phase>('asking');
  hostname = $state('');
  title = $state('');
  session = $state<string | null>(null);
  problem = $state<Problem | null>(null);
  ending = $state.raw<Ending | null>(null);
  /** A deadline the bastion has announced, in milliseconds since the epoch. */
  deadline = $state<{ at: number; reason: string } | null>(null);
  watchers = $state(0);
  /** Output has come since this tab was last looked at. */
  unseen = $state(false);
  matches = $state({ index: -1, count: 0 });
  /** The next key typed is sent with Ctrl (the on-screen key bar). */
  ctrl = $state(false);
  shown = false;
  screen: Screen | null = null;
  #connection: Connection | null = null;
  #attempt = 0;

  constructor(target: Target) {
    this.target = target;
    this.hostname = target.hostname;
  }

  get live(): boolean {
    return this.phase === 'open' || this.phase === 'host' || this.phase === 'dialling';
  }

  /** Called when the tab's element is in the page: from now on there is a size to ask for. */
  async mount(host: HTMLElement, around: Surroundings): Promise<void> {
    const { Screen } = await import('./screen');
    this.screen = new Screen(host, this.#look, {
      typed: (text) => this.#typed(text),
      binary: (bytes) => void this.#connection?.input(bytes),
      resized: (cols, rows) => this.#connection?.resize(cols, rows),
      titled: (title) => {
        this.title = cleanTitle(title);
      },
      link: around.link,
      pasted: around.paste,
      copied: (text) => void copy(text),
      find: around.find,
      leave: around.leave,
      found: (index, count) => {
        this.matches = { index, count };
      },
    });
    await this.open();
  }

  /** Asks for a ticket and opens the socket; again after an end. */
  async open(): Promise<void> {
    const attempt = ++this.#attempt;
    this.phase = 'asking';
    this.problem = this.ending = this.deadline = this.session = null;
    this.screen?.fit();
    const size = this.screen?.size ?? { cols: 80, rows: 24 };
    try {
      if (!this.hostname) void this.#name();
      const answer = await this.#authorize(size);
      if (attempt !== this.#attempt) return;
      if (!('token' in answer)) this.phase = 'approval';
      else this.#dial(answer, size);
    } catch (error) {
      if (attempt !== this.#attempt) return;
      this.problem = asProblem(error);
      this.phase = 'refused';
    }
  }

  paste(text: string): void {
    this.screen?.paste(text);
  }

  look(): void {
    this.screen?.look(this.#look);
  }

  /** Ends the session and frees everything. */
  close(): void {
    this.#attempt += 1;
    if (this.live && this.session) {
      call(api.DELETE('/sessions/{id}', { params: { path: { id: this.session } } })).catch(() => undefined);
    }
    this.#connection?.close();
    this.#connection = null;
    this.screen?.dispose();
    this.screen = null;
  }

  get #look() {
    return { fontSize: settings.fontSize, palette: settings.colours, screenReader: settings.screenReader };
  }

  /** Looks up what the host is called; without an answer the tab goes by its id. */
  async #name(): Promise<void> {
    const { asset } = this.target;
    const found = await call(api.GET('/assets/{id}', { params: { path: { id: asset } } })).catch(() => null);
    this.hostname = found?.hostname ?? asset;
  }

  #authorize(size: { cols: number; rows: number }) {
    const { asset, command, reason } = this.target;
    const query = { ...size, ...(command && { command }), ...(reason && { reason }) };
    return call(api.GET('/assets/{id}/tty/authorize', { params: { path: { id: asset }, query } }));
  }

  #dial(ticket: Ticket, size: { cols: number; rows: number }): void {
    this.phase = 'dialling';
    const ours = () => connection === this.#connection;
    const connection = new Connection(
      {
        ready: ({ id }) => this.#ready(id),
        output: (bytes, parsed) => {
          if (!this.shown) this.unseen = true;
          this.screen?.write(bytes, parsed);
        },
        cleared: () => this.screen?.reset(),
        closing: (reason, seconds) => {
          this.deadline = { at: Date.now() + seconds * 1000, reason };
        },
        skipped: (direction, bytes) =>
          notices.bad(
            direction === 'output'
              ? `${this.hostname}: ${bytes} bytes of output were not shown here; the recording has them.`
              : `${this.hostname}: ${bytes} bytes typed while away were too old to send.`,
          ),
        peers: (count) => {
          this.watchers = Math.max(0, count);
        },
        ended: (ending) => {
          if (ours()) this.#ended(ending, ticket.ws_url);
        },
      },
      browserClock,
      size,
    );
    this.#connection = connection;
    dial(connection, ticket.ws_url, ticket.token);
    this.phase = 'host';
  }

  #ready(session: string): void {
    this.session = session;
    this.phase = 'open';
    this.screen?.accept(true);
    if (this.shown) this.screen?.focus();
  }

  #ended(ending: Ending, url: string): void {
    this.screen?.accept(false);
    this.deadline = null;
    const host = new URL(url, location.href).host;
    const elsewhere = this.phase !== 'open' && ending.lost && host !== location.host;
    this.ending = elsewhere
      ? { ...ending, detail: `This page was opened at ${location.host}, but the bastion calls itself ${host}. Open it there.` }
      : ending;
    this.phase = 'ended';
  }

  #typed(text: string): void {
    let keys = text;
    if (this.ctrl && text.length === 1) {
      keys = String.fromCharCode(text.toUpperCase().charCodeAt(0) & 0x1f);
      this.ctrl = false;
    }
    if (this.#connection && !this.#connection.type(keys) && this.phase === 'open') {
      notices.bad('That is too much at once: nothing of it was sent. Paste less, or copy it as a file.');
    }
  }
}

/** Puts text on the clipboard. */
export async function copy(text: string): Promise<void> {
  if (!text) return;
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    notices.bad('The browser did not let this page copy.');
  }
}
